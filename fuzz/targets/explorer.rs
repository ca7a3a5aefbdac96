//! Uploads to the explorer, over a real connection to a server in this process.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::LazyLock,
    thread,
    time::Duration,
};

use atlas::{
    base::stop_request::Stop,
    config::Config,
    data::work_folder::WorkFolder,
    training::run_folder::Run,
    views::explore::{Explorer, Server},
};

use crate::synthetic::SyntheticRun;

pub const PARTS: &[&str] = &[
    "--x\r\n",
    "--x--\r\n",
    "--x--",
    "Content-Disposition: form-data; name=\"file\"; filename=\"a_red.png\"\r\n",
    "Content-Type: multipart/mixed; boundary=x\r\n",
    "Content-Transfer-Encoding: base64\r\n",
    "\r\n\r\n",
    "filename*=UTF-8''%00",
];

/// The address of the server, which runs as long as the process.
static ADDRESS: LazyLock<String> = LazyLock::new(|| {
    static STOP: Stop = Stop::new();
    let run = Box::leak(Box::new(SyntheticRun::new(6, 2)));
    let config = Config::load(Some(&run.config), &[]).expect("a configuration");
    let folder = config.paths.results.join("made");
    let work = WorkFolder::of(&config);
    let explorer = Explorer::open(&config, &work, &Run { folder }, &STOP).expect("a run");
    let server = Server::bind(None, 0, false).expect("a free port");
    let address = server.url.trim_start_matches("http://").trim_end_matches('/').to_string();
    thread::spawn(move || server.run(explorer, &STOP));
    address
});

/// The body of an upload with the boundary `x`. Every request must have an answer, and none may be
/// the server's own fault.
pub fn upload(bytes: &[u8]) {
    let head = format!(
        "POST /api/uploads HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
            Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {}\r\n\r\n",
        *ADDRESS,
        bytes.len()
    );
    let mut stream = TcpStream::connect(&*ADDRESS).expect("the server takes connections");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    // A server that has refused does not read the rest.
    let _ = stream.write_all(&[head.as_bytes(), bytes].concat());
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let status = String::from_utf8_lossy(answer.get(9..12).unwrap_or_default()).into_owned();
    // It may be lost where the server closes a connection of which it has not read everything.
    let is_lost = ended.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset);
    let is_due = is_lost || (ended.is_ok() && !status.is_empty() && !status.starts_with('5'));
    assert!(is_due, "the answer has the status `{status}` ({ended:?})");
}
