//! A target behind TLS whose handshakes break off.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::free_ports;
use crate::support::postgres::run;
use crate::support::s3::{LIMITED, SeaweedFs};
use crate::support::sqlite_setup::Setup;

/// Speaks TLS for a server, after it has broken off three handshakes: without a word, in the middle of a record, and as
/// a load balancer does that has no server yet.
const TERMINATOR: &str = r"
import socket, ssl, sys, threading
port, upstream, certificate, key = int(sys.argv[1]), sys.argv[2].rsplit(':', 1), sys.argv[3], sys.argv[4]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
listener = socket.create_server(('127.0.0.1', port))
breaks = [b'', b'\x16\x03\x03\x00\x50half', b'\x15\x03\x03\x00\x02\x02\x50']
def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
def serve(client):
    try:
        client = context.wrap_socket(client, server_side=True)
    except OSError:
        return
    server = socket.create_connection((upstream[0], int(upstream[1])))
    threading.Thread(target=pump, args=(server, client), daemon=True).start()
    pump(client, server)
print('ready', flush=True)
while True:
    client, _ = listener.accept()
    if breaks:
        client.recv(65536)
        client.sendall(breaks.pop(0))
        client.close()
        print('broke', flush=True)
    else:
        threading.Thread(target=serve, args=(client,), daemon=True).start()
";

struct Terminator {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Terminator {
    fn start(port: u16, upstream: &str, certificate: &Path, key: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", TERMINATOR, &port.to_string(), upstream]).arg(certificate).arg(key);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut terminator = Self { said: BufReader::new(child.stdout.take().unwrap()), child };
        assert_eq!(terminator.says(), "ready");
        terminator
    }

    fn says(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_break_off_are_tried_again() {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(false).await;
    let setup = Setup::new(10, 100);
    let (key, certificate) = (setup.path("tls.key"), setup.path("tls.crt"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]);
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]);
    run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    let [port] = free_ports();
    let mut terminator = Terminator::start(port, &server.address().to_string(), &certificate, &key);
    let url = server.url(&bucket, LIMITED);
    let url = url.replace(&server.endpoint(), &format!("https://127.0.0.1:{port}"));
    setup.configure(&[("s3", &url)], "", "");
    let report = setup.snapshot().env("SSL_CERT_FILE", &certificate).success().json();
    assert_eq!(report["verdict"], "complete", "{report}");
    for _ in 0..3 {
        assert_eq!(terminator.says(), "broke");
    }
    // A certificate that is not trusted stays so: there is no use in trying again.
    let refused = setup.snapshot().fails_with(8);
    assert!(refused.to_string().contains("TLS failed"), "{refused}");
    assert!(!refused.to_string().contains("given up after"), "{refused}");
}
