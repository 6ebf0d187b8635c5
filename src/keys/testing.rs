//! The real `age` and OpenSSH tools, for tests of interoperation.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Runs a tool with some input, whatever its exit status.
pub(crate) fn output(tool: &str, args: &[&OsStr], input: &[u8]) -> Output {
    let mut child = Command::new(tool)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{tool}: {e}; these tests need `apt-get install age openssh-client`"));
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A tool that refuses early closes its input; its exit status tells.
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output().unwrap()
    })
}

/// Runs a tool that must succeed, and gives its stdout.
pub(crate) fn run(tool: &str, args: &[&OsStr], input: &[u8]) -> Vec<u8> {
    let output = output(tool, args, input);
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub(crate) struct AgeKey {
    pub(crate) path: PathBuf,
    pub(crate) recipient: String,
}

/// A key made by `age-keygen`.
pub(crate) fn age_key(dir: &Path, name: &str) -> AgeKey {
    let path = dir.join(format!("{name}.age-key"));
    run("age-keygen", &["-o".as_ref(), path.as_os_str()], b"");
    let recipient = run("age-keygen", &["-y".as_ref(), path.as_os_str()], b"");
    AgeKey { path, recipient: String::from_utf8(recipient).unwrap().trim().to_owned() }
}

/// An Ed25519 key made by `ssh-keygen`, with its `.pub` beside it.
pub(crate) fn ssh_key(dir: &Path, name: &str) -> PathBuf {
    ssh_key_with(dir, name, "ed25519", "")
}

pub(crate) fn ssh_key_with(dir: &Path, name: &str, kind: &str, passphrase: &str) -> PathBuf {
    let path = dir.join(name);
    let args = ["-q", "-t", kind, "-N", passphrase, "-C", name, "-f"];
    let mut args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    args.push(path.as_os_str());
    run("ssh-keygen", &args, b"");
    path
}

/// A well-formed recipient of a plugin that does not exist.
pub(crate) fn plugin_recipient(name: &str) -> String {
    bech32(&format!("age1{name}"), &[7; 32])
}

/// A well-formed identity of a plugin that does not exist.
pub(crate) fn plugin_identity(name: &str) -> String {
    bech32(&format!("age-plugin-{name}-"), &[7; 32]).to_uppercase()
}

/// Bech32 (BIP 173) without its limit of 90 characters, as age has it.
fn bech32(prefix: &str, data: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let mut values = Vec::new();
    let (mut buffer, mut bits) = (0_u32, 0);
    for &byte in data {
        buffer = (buffer << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            values.push((buffer >> bits) as u8 & 31);
        }
    }
    if bits > 0 {
        values.push((buffer << (5 - bits)) as u8 & 31);
    }
    let mut checked: Vec<u8> = prefix.bytes().map(|b| b >> 5).collect();
    checked.push(0);
    checked.extend(prefix.bytes().map(|b| b & 31));
    checked.extend(&values);
    checked.extend([0; 6]);
    let generators = [0x3b6a_57b2_u32, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let mut sum = 1_u32;
    for value in checked {
        let top = sum >> 25;
        sum = ((sum & 0x01ff_ffff) << 5) ^ u32::from(value);
        for (i, generator) in generators.iter().enumerate() {
            if (top >> i) & 1 == 1 {
                sum ^= generator;
            }
        }
    }
    sum ^= 1;
    values.extend((0..6).map(|i| (sum >> (5 * (5 - i))) as u8 & 31));
    let letters = values.iter().map(|&v| char::from(ALPHABET[usize::from(v)]));
    format!("{prefix}1{}", letters.collect::<String>())
}
