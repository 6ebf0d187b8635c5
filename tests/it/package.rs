//! The life of the Debian package in Debian 12 and 13, each under a real systemd. With `--long` only: the systems are
//! hundreds of megabytes that everyday tests do not fetch.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::support::machine::Machine;
use super::support::postgres::run;
use super::support::short_or_long;

/// A folder with the package, as it is built, and with the same in two later versions.
fn packages() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(build).path()
}

fn build() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/debian/build");
    run(Command::new(script)
        .args(["--program", env!("CARGO_BIN_EXE_marbre"), "--version", "1.0-1", "--out"])
        .arg(folder.path()));
    let first = first(folder.path());
    run(Command::new("dpkg-deb").arg("--raw-extract").args([&first, &at("tree")]));
    for version in ["1.1-1", "1.2-1"] {
        run(Command::new("sed")
            .args(["-i", &format!("s/^Version: .*/Version: {version}/")])
            .arg(at("tree/DEBIAN/control")));
        run(Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zgzip", "-z1", "--build"])
            .args([at("tree"), at(&format!("marbre_{version}.deb"))]));
    }
    run(Command::new("mv").args([first, at("marbre_1.0-1.deb")]));
    run(Command::new("rm").arg("-r").arg(at("tree")));
    // Root of the container reads it as nobody's.
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(folder.path()));
    folder
}

/// The package that the script has made, of whatever architecture this is.
fn first(folder: &Path) -> PathBuf {
    let mut packages = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_first = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("marbre_1.0-1_");
    packages.find(is_first).expect("no package was built")
}

#[test]
fn the_package_lives_in_debian_12() {
    if short_or_long(false, true) {
        live("bookworm");
    }
}

#[test]
fn the_package_lives_in_debian_13() {
    if short_or_long(false, true) {
        live("trixie");
    }
}

fn live(release: &str) {
    let machine = Machine::start(release, packages());
    is_installed(&machine);
    helps(&machine);
    backs_up(&machine);
    reload_refuses_what_is_wrong(&machine);
    is_upgraded(&machine);
    is_removed_and_comes_back(&machine);
    is_purged(&machine);
}

fn install(machine: &Machine, version: &str) -> String {
    machine.sh(&format!("apt-get install -y -q /shared/marbre_{version}.deb"))
}

/// The process of the daemon.
fn daemon(machine: &Machine) -> String {
    machine.sh("systemctl show -P MainPID marbre").trim().to_owned()
}

fn is_installed(machine: &Machine) {
    let said = install(machine, "1.0-1");
    assert!(said.contains("Nothing is started"), "{said}");
    assert_eq!(machine.fails("systemctl is-enabled marbre marbre-watch.timer"), "disabled\ndisabled\n");
    assert_eq!(machine.fails("systemctl is-active marbre marbre-watch.timer"), "inactive\ninactive\n");
    assert_eq!(
        machine.sh("stat -c '%n %U:%G %a' /etc/marbre /var/lib/marbre"),
        "/etc/marbre root:marbre 750\n/var/lib/marbre marbre:marbre 700\n"
    );
    assert_eq!(machine.sh("getent passwd marbre | cut -d : -f 6"), "/var/lib/marbre\n");
    assert_eq!(machine.sh("systemd-analyze verify marbre.service marbre-watch.timer"), "");
    assert_eq!(
        machine.sh("grep -r /usr/local /usr/lib/systemd/system/marbre* /usr/lib/*.d/marbre.conf || true"),
        ""
    );
    assert_eq!(machine.sh("cd / && md5sum --quiet -c /var/lib/dpkg/info/marbre.md5sums"), "");
    for document in [
        "README.md",
        "config.example.toml",
        "docs/RECOVERY.md",
        "docs/recovery/marbre-read.py",
        "copyright",
        "changelog.gz",
    ] {
        machine.sh(&format!("test -s /usr/share/doc/marbre/{document}"));
    }
}

fn helps(machine: &Machine) {
    assert!(machine.sh("man marbre-snapshot | cat").contains("Take a snapshot now"));
    assert_eq!(machine.sh("man --warnings marbre marbre-restore 2>&1 >/dev/null"), "");
    let bash = "source /usr/share/bash-completion/bash_completion; _comp_load marbre || __load_completion marbre; complete -p marbre";
    assert!(machine.sh(&format!("bash -c '{bash}'")).contains("-F _marbre"));
    assert!(machine.sh("fish -c \"complete -C 'marbre snap'\"").starts_with("snapshot"));
    let zsh = "autoload -U compinit && compinit -u && print $_comps[marbre] && autoload +X _marbre";
    assert_eq!(machine.sh(&format!("zsh -fc '{zsh}'")), "_marbre\n");
}

/// As the README has it, with a database of SQLite and a folder.
fn backs_up(machine: &Machine) {
    machine.sh(
        r#"
        install -d -o marbre -g marbre -m 700 /srv/nas /srv/boutique
        sudo -u marbre sqlite3 /srv/boutique/abonnes.db 'CREATE TABLE subscriber (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO subscriber VALUES (1, "Zoé")'
        mkdir -p /etc/systemd/system/marbre.service.d
        printf '[Service]\nReadWritePaths=/srv/nas /srv/boutique\n' >/etc/systemd/system/marbre.service.d/paths.conf
        sudo -u marbre marbre keygen --agent /var/lib/marbre/agent_ed25519
        marbre keygen /root/gazette-keys
        cat >/etc/marbre/marbre.toml <<END
publisher.gazette.recipients = ["$(grep ^age1 /root/gazette-keys/restore.pub)"]
target.nas.url = "/srv/nas"
[database.abonnes]
publisher = "gazette"
engine = "sqlite"
path = "/srv/boutique/abonnes.db"
targets = ["nas"]
schedule = { snapshot = "*/3 * * * * *" }
END
        cp /etc/marbre/marbre.toml /root/good.toml
        sudo -u marbre marbre snapshot abonnes
        sudo -u marbre marbre drill abonnes
        systemctl daemon-reload
        systemctl enable --now marbre"#,
    );
    let pid = daemon(machine);
    assert_eq!(machine.sh(&format!("stat -c %U /proc/{pid}")), "marbre\n");
    assert_eq!(machine.sh(&format!("readlink /proc/{pid}/exe")), "/usr/bin/marbre\n");
    goes_on(machine);
}

/// The daemon takes another snapshot by itself.
fn goes_on(machine: &Machine) {
    let count = "ls /srv/nas/gazette/abonnes/receipts/*.json | wc -l";
    let there = machine.sh(count);
    machine.wait_for("another snapshot", &format!("test $({count}) -gt {}", there.trim()));
}

fn reload_refuses_what_is_wrong(machine: &Machine) {
    let pid = daemon(machine);
    machine.sh("echo 'keep_everything = true' >>/etc/marbre/marbre.toml");
    machine.fails("systemctl reload marbre");
    assert!(machine.sh("journalctl -u marbre --no-pager").contains("keep_everything"));
    assert_eq!(machine.sh("systemctl is-active marbre"), "active\n");
    assert_eq!(daemon(machine), pid);
    goes_on(machine);
}

/// What belongs to people and must be the same afterwards, as hashes.
fn precious(machine: &Machine) -> String {
    machine.sh("sha256sum /etc/marbre/marbre.toml /etc/systemd/system/marbre.service.d/paths.conf \
        /var/lib/marbre/agent_ed25519 $(find /var/lib/marbre/epoch-keys -type f)")
}

fn is_upgraded(machine: &Machine) {
    let (pid, before) = (daemon(machine), precious(machine));
    let said = install(machine, "1.1-1");
    assert!(said.contains("This version refuses the configuration"), "{said}");
    assert_eq!((daemon(machine), precious(machine)), (pid.clone(), before));
    goes_on(machine);

    machine.sh("cp /root/good.toml /etc/marbre/marbre.toml");
    let before = precious(machine);
    let said = install(machine, "1.2-1");
    assert!(!said.contains("refuses"), "{said}");
    assert_ne!(daemon(machine), pid);
    assert_eq!(machine.sh("systemctl is-active marbre"), "active\n");
    assert_eq!(machine.sh("dpkg-query -W -f '${Version} ${Status}' marbre"), "1.2-1 install ok installed");
    assert_eq!(precious(machine), before);
    goes_on(machine);
}

fn is_removed_and_comes_back(machine: &Machine) {
    let (before, pid) = (precious(machine), daemon(machine));
    machine.sh("apt-get remove -y -q marbre");
    machine.fails(&format!("test -e /proc/{pid}"));
    machine.fails("test -e /usr/bin/marbre -o -e /usr/lib/systemd/system/marbre.service");
    assert_eq!(precious(machine), before);
    machine.sh("test -s /var/lib/marbre/state.sqlite");
    let said = install(machine, "1.2-1");
    assert!(said.contains("enabled and does not run"), "{said}");
    machine.sh("systemctl start marbre");
    goes_on(machine);
}

fn is_purged(machine: &Machine) {
    machine.sh("systemctl stop marbre");
    let before = precious(machine);
    let stored = || machine.sh("find /srv/nas -type f | sort | xargs sha256sum");
    let there = stored();
    let said = machine.sh("apt-get purge -y -q marbre");
    let unit = "/etc/systemd/system/marbre.service.d/paths.conf";
    for kept in
        ["/etc/marbre/marbre.toml", "/var/lib/marbre/agent_ed25519", "/var/lib/marbre/epoch-keys", unit]
    {
        assert!(said.lines().any(|line| line.trim() == kept), "{kept} is not named: {said}");
    }
    assert_eq!((precious(machine), stored()), (before, there));
    let gone = ["state.sqlite", "state.sqlite-wal", "spool", "streams", "locks", "ballast", "scratch"];
    let left = machine.sh("ls /var/lib/marbre");
    assert!(left.lines().all(|name| !gone.contains(&name)), "{left}");
    machine.fails("dpkg-query -W -f '${Status}' marbre");
    machine.fails("test -L /etc/systemd/system/multi-user.target.wants/marbre.service");

    // What was kept is enough to go on with the same chain.
    install(machine, "1.0-1");
    machine.sh("sudo -u marbre marbre snapshot abonnes && sudo -u marbre marbre verify abonnes");
    assert_eq!(machine.fails("systemctl is-enabled marbre"), "disabled\n");
}
