//! Where alerts arrive in tests: a real mail server, and a small one for HTTP that answers as it is told.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::free_ports;

/// The password of the mail server's user `marbre`.
pub const PASSWORD: &str = "hunter2-MAIL-SECRET";

/// A mail server (aiosmtpd). Gone when dropped.
#[derive(Debug)]
pub struct Mail {
    folder: tempfile::TempDir,
    mode: String,
    child: Option<Child>,
    /// Its port on the loopback interface.
    pub port: u16,
}

impl Mail {
    /// Starts one: `starttls`, `implicit` or `plain`.
    pub fn start(mode: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("password"), PASSWORD).unwrap();
        let [port] = free_ports();
        let mut mail = Self { folder, mode: mode.to_owned(), child: None, port };
        mail.resume();
        mail
    }

    /// Stops it: nobody answers at its port.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it (again), with the same certificate authority and the mails that it had.
    pub fn resume(&mut self) {
        let modules = std::env::var("MARBRE_TEST_PYTHONPATH").expect("run `eval \"$(tests/install)\"` first");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/smtp.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(self.folder.path())
            .args([&self.mode, &self.port.to_string()])
            .env("PYTHONPATH", modules)
            .stdout(Stdio::piped())
            // It writes a page for each client that does not trust it.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.child = Some(child);
        assert_eq!(line, "ready\n");
    }

    /// The authority that signed its certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// From now on it answers each mail so; with `None` it takes them.
    pub fn answers(&self, answer: Option<&str>) {
        let path = self.folder.path().join("answer");
        match answer {
            Some(answer) => fs::write(path, answer).unwrap(),
            None => drop(fs::remove_file(path)),
        }
    }

    /// The mails that it took.
    pub fn mails(&self) -> Vec<String> {
        let path = |n: usize| self.folder.path().join(format!("{n}.eml"));
        (1..).map_while(|n| fs::read_to_string(path(n)).ok()).collect()
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How an HTTP sink answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With this status.
    Status(u16),
    /// With a redirect to the sink's own `/elsewhere`.
    Redirect,
    /// Never.
    Hang,
}

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its first line.
    pub line: String,
    /// Its headers, in lower case.
    pub headers: String,
    /// Its body.
    pub body: String,
}

/// A server that takes requests.
#[derive(Debug)]
pub struct Sink {
    /// Its port on the loopback interface.
    pub port: u16,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Sink {
    /// Starts one that answers 200.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(Mutex::new(Answer::Status(200)));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let sink = Self { port, answer: Arc::clone(&answer), requests: Arc::clone(&requests) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, requests) = (*answer.lock().unwrap(), Arc::clone(&requests));
                std::thread::spawn(move || drop(serve(stream, answer, &requests)));
            }
        });
        sink
    }

    /// From now on it answers so.
    pub fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// What came in.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Its URL with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

fn serve(mut stream: TcpStream, answer: Answer, requests: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut headers) = (String::new(), String::new());
    reader.read_line(&mut line)?;
    while !headers.ends_with("\n\r\n") && headers != "\r\n" {
        if reader.read_line(&mut headers)? == 0 {
            break;
        }
    }
    let headers = headers.to_ascii_lowercase();
    let length = headers.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    requests.lock().unwrap().push(Request { line: line.trim().to_owned(), headers, body });
    match answer {
        Answer::Hang => std::thread::sleep(Duration::from_secs(60)),
        Answer::Redirect => {
            write!(
                stream,
                "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )?;
        }
        Answer::Status(status) => {
            write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
        }
    }
    Ok(())
}
