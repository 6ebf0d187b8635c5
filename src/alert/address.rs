//! Which addresses a message may be sent to. Several people may be able to write the configuration that a URL comes
//! from, and a name may resolve to anything: the metadata services of clouds hand out credentials to whoever asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is refused: a fragment that fits "is ...". `None` if it is fine.
pub(crate) fn refusal(address: IpAddr, allow_private: bool) -> Option<&'static str> {
    let (never, private) = match embedded(address) {
        IpAddr::V4(v4) => (never_v4(v4), is_private_v4(v4)),
        IpAddr::V6(v6) => (never_v6(v6), is_private_v6(v6)),
    };
    never.or_else(|| (private && !allow_private).then_some("a private address"))
}

/// The IPv4 address inside an IPv6 one, however it is wrapped: mapped, compatible, NAT64, 6to4.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// What is always refused.
fn never_v4(v4: Ipv4Addr) -> Option<&'static str> {
    // Metadata services of Alibaba, Azure and Oracle, on addresses that are not link-local.
    const METADATA: [Ipv4Addr; 3] =
        [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
    if v4.is_link_local() {
        return Some("a link-local address");
    }
    if METADATA.contains(&v4) {
        return Some("the address of a metadata service");
    }
    (v4.octets()[0] == 0 || v4.is_multicast() || v4.octets()[0] >= 240).then_some("not the address of a host")
}

fn is_private_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    // Shared (RFC 6598), protocol assignments (RFC 6890) and benchmarks (RFC 2544).
    let special =
        (a == 100 && b & 0xc0 == 64) || (a == 192 && b == 0 && c == 0) || (a == 198 && b & 0xfe == 18);
    v4.is_loopback() || v4.is_private() || special
}

fn never_v6(v6: Ipv6Addr) -> Option<&'static str> {
    // Those of Amazon and Google.
    const METADATA: [Ipv6Addr; 2] = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    ];
    if v6.is_unicast_link_local() {
        return Some("a link-local address");
    }
    if METADATA.contains(&v6) {
        return Some("the address of a metadata service");
    }
    (v6.is_unspecified() || v6.is_multicast()).then_some("not the address of a host")
}

fn is_private_v6(v6: Ipv6Addr) -> bool {
    // Site-local addresses are deprecated, but still routed in places.
    v6.is_loopback() || v6.is_unique_local() || v6.segments()[0] & 0xffc0 == 0xfec0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_are_never_contacted() {
        for text in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "::",
            "ff02::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(refusal(text.parse().unwrap(), true).is_some(), "{text}");
        }
    }

    #[test]
    fn private_addresses_must_be_allowed() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "198.19.0.1",
            "::1",
            "fd12::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
        ] {
            let address = text.parse().unwrap();
            assert_eq!(refusal(address, false), Some("a private address"), "{text}");
            assert_eq!(refusal(address, true), None, "{text}");
        }
        for text in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert_eq!(refusal(text.parse().unwrap(), false), None, "{text}");
        }
    }
}
