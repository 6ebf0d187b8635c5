//! Which addresses a message may be sent to. Several people may be able to write the configuration that a URL comes
//! from, and a name may resolve to anything: the metadata services of clouds hand out credentials to whoever asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is refused: a fragment that fits "is ...". `None` if it is fine.
pub(crate) fn refusal(address: IpAddr, allow_private: bool) -> Option<&'static str> {
    let (never, private) = match address {
        IpAddr::V4(v4) => (never_v4(v4), is_private_v4(v4)),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => (never_v6(v6).or(never_v4(v4)), is_private_v6(v6) || is_private_v4(v4)),
            None => (never_v6(v6), is_private_v6(v6)),
        },
    };
    never.or_else(|| (private && !allow_private).then_some("a private address"))
}

/// The IPv4 address inside an IPv6 one that may lead to it, however it is wrapped.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        // Mapped (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // Compatible (RFC 4291): below it are `::` and `::1`.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        // 6to4 (RFC 3056); Teredo (RFC 4380), which inverts its bits.
        [0x2002, high, low, ..] => v4(high, low),
        [0x2001, 0, _, _, _, _, high, low] => v4(!high, !low),
        // ISATAP (RFC 5214), in any network.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => v4(high, low),
        _ => None,
    }
}

/// Whether this is of the block for a network's own NAT64 (RFC 8215). Where in it the IPv4 address lies is the network's choice.
fn is_local_nat64(v6: Ipv6Addr) -> bool {
    v6.segments()[..3] == [0x64, 0xff9b, 1]
}

/// The IPv4 addresses that an address of a network's own NAT64 may stand for (RFC 6052, section 2.2): after 48, 56, 64 or 96 bits, and
/// around bits 64 to 71.
fn translated(v6: Ipv6Addr) -> [Ipv4Addr; 4] {
    let o = v6.octets();
    [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]]
        .map(|at| Ipv4Addr::from(at.map(|n| o[n])))
}

/// Where metadata services are.
fn hands_out_credentials(v4: Ipv4Addr) -> Option<&'static str> {
    // Those of Alibaba, Azure and Oracle, on addresses that are not link-local.
    const METADATA: [Ipv4Addr; 3] =
        [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
    if v4.is_link_local() {
        return Some("a link-local address");
    }
    METADATA.contains(&v4).then_some("the address of a metadata service")
}

/// What is always refused.
fn never_v4(v4: Ipv4Addr) -> Option<&'static str> {
    if let Some(refused) = hands_out_credentials(v4) {
        return Some(refused);
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
    if is_local_nat64(v6)
        && let Some(refused) = translated(v6).into_iter().find_map(hands_out_credentials)
    {
        return Some(refused);
    }
    (v6.is_unspecified() || v6.is_multicast()).then_some("not the address of a host")
}

fn is_private_v6(v6: Ipv6Addr) -> bool {
    // Site-local addresses are deprecated, but still routed in places.
    v6.is_loopback() || v6.is_unique_local() || v6.segments()[0] & 0xffc0 == 0xfec0 || is_local_nat64(v6)
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
            "::ffff:0:169.254.169.254",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00:0",
            "64:ff9b:1:6464:64:c800::",
            "2001:0:102:304::5601:5601",
            "2001:db8::5efe:169.254.169.254",
            "2001:db8::200:5efe:169.254.169.254",
            "fe80::5efe:1.1.1.1",
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
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "2001:0:102:304::f5ff:fffe",
            "2001:db8::5efe:10.0.0.1",
            "fd12::5efe:1.1.1.1",
        ] {
            let address = text.parse().unwrap();
            assert_eq!(refusal(address, false), Some("a private address"), "{text}");
            assert_eq!(refusal(address, true), None, "{text}");
        }
        for text in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2001:db8::5efe:1.1.1.1",
        ] {
            assert_eq!(refusal(text.parse().unwrap(), false), None, "{text}");
        }
    }
}
