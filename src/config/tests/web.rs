//! Where the daemon shows how it stands.

use super::*;

fn web(lines: &str) -> Config {
    parse(&format!("{lines}\n{}", small())).unwrap()
}

#[test]
fn loopback_unless_it_is_said_otherwise() {
    let expected = Web { listen: "127.0.0.1:9190".parse().unwrap(), hosts: Vec::new() };
    for lines in ["", "[web]", "web.listen = \"127.0.0.1:9190\""] {
        let config = web(lines);
        assert_eq!((config.web.as_ref(), config.warnings.len()), (Some(&expected), 0), "{lines}");
    }
    assert_eq!(web("web.listen = \"none\"").web, None);
    let named = web("web = { listen = \"[::1]:80\", hosts = [\"backup.example\"] }");
    let expected = Web { listen: "[::1]:80".parse().unwrap(), hosts: vec!["backup.example".to_owned()] };
    assert_eq!((named.web, named.warnings.len()), (Some(expected), 0));
}

#[test]
fn an_address_that_others_reach_is_a_warning() {
    for address in ["0.0.0.0:9190", "[::]:9190", "10.0.0.5:9190", "[::ffff:10.0.0.5]:1"] {
        let config = web(&format!("web.listen = \"{address}\""));
        let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
        assert!(warning.contains("web.listen: others can reach this address"), "{warning}");
    }
}
