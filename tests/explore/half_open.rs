//! Clients that send half a request, read nothing, or leave open where a request ends.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::{
    SIDE, TEST, TRAIN,
    synthetic::{Explored, SyntheticRun},
};
use atlas::data::contact_sheet::encode_png;

/// Far above the explorer's own limits, of at most 30 s.
const PATIENCE: Duration = Duration::from_secs(120);

fn connected(explored: &Explored, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&explored.address).unwrap();
    let _ = stream.write_all(sent.as_bytes()); // the server may have heard enough
    stream
}

/// All that comes until the server closes the connection, or resets it.
fn answer(mut stream: TcpStream) -> String {
    let (started, mut bytes, mut buffer) = (Instant::now(), Vec::new(), [0; 4096]);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    loop {
        match stream.read(&mut buffer) {
            Ok(n @ 1..) => bytes.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => panic!("the connection stays open"),
            _ => break,
        }
        assert!(started.elapsed() < PATIENCE);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends one byte a second until the server closes the connection.
fn trickle(mut stream: TcpStream, byte: &[u8]) -> String {
    let (started, reader) = (Instant::now(), stream.try_clone().unwrap());
    let answered = thread::spawn(|| answer(reader));
    while !answered.is_finished() {
        assert!(started.elapsed() < PATIENCE, "the connection stays open");
        let _ = stream.write_all(byte); // fails once it is closed
        thread::sleep(Duration::from_secs(1));
    }
    answered.join().unwrap()
}

#[test]
fn half_requests_keep_nobody_out_and_are_dropped() {
    let synthetic = SyntheticRun::new(TRAIN, TEST);
    let atlas = synthetic.command(&[]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 100 && exec \"$@\"", "sh"]).arg(atlas.get_program());
    limited.args(atlas.get_args()).env_remove("ATLAS_RUN");
    let explored = Explored::start(limited);
    let host = format!("Host: {}\r\n", explored.address);
    // The last ones stay until their time is over.
    let half: Vec<_> = (0..300).map(|_| connected(&explored, "GET / H")).collect();
    for path in ["/api/run", "/api/samples/0/image", "/api/samples/0/prediction"] {
        assert_eq!(explored.get(path).status, 200, "{path}");
    }
    let silent = connected(&explored, "");
    let idle = connected(&explored, &format!("GET /icon.svg HTTP/1.1\r\n{host}\r\n"));
    let slow = connected(&explored, &format!("GET / HTTP/1.1\r\n{host}X: "));
    let slow = thread::spawn(|| trickle(slow, b"x"));
    half.into_iter().for_each(|half| drop(answer(half)));
    assert_eq!(answer(silent), "");
    assert!(answer(idle).starts_with("HTTP/1.1 200"));
    assert!(!slow.join().unwrap().contains("200"));
    assert_eq!(explored.get("/").status, 200);
}

#[test]
fn slow_uploads_hold_up_nobody_and_end() {
    let synthetic = SyntheticRun::new(TRAIN, TEST);
    let explored = synthetic.explore(&[]);
    let head = format!(
        "POST /api/uploads HTTP/1.1\r\nHost: {}\r\nContent-Type: multipart/form-data; \
            boundary=x\r\nContent-Length: 60000000\r\n\r\n",
        explored.address
    );
    let stuck: Vec<_> = (0..20).map(|_| connected(&explored, &head)).collect();
    let slow = connected(&explored, &head);
    let slow = thread::spawn(|| trickle(slow, b"-"));
    let image = encode_png(&[7; SIDE * SIDE * 3], SIDE, SIDE, png::ColorType::Rgb).unwrap();
    let sent = explored.post(&[("a.png", &image)]);
    assert_eq!(sent.status, 201, "{}", sent.text());
    for answer in stuck.into_iter().map(answer).chain([slow.join().unwrap()]) {
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[test]
fn a_client_that_reads_nothing_is_dropped() {
    let synthetic = SyntheticRun::new(TRAIN, TEST);
    let explored = synthetic.explore(&[]);
    let request = format!("GET /explore.js HTTP/1.1\r\nHost: {}\r\n\r\n", explored.address);
    let mut stream = connected(&explored, "");
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let started = Instant::now();
    // Until both directions are full, and then until the server closes the connection.
    loop {
        match stream.write(request.as_bytes()) {
            Err(e) if e.kind() != ErrorKind::WouldBlock => break,
            _ => assert!(started.elapsed() < PATIENCE, "the connection stays open"),
        }
    }
}

#[test]
fn without_a_file_for_a_connection_it_waits_for_one() {
    let synthetic = SyntheticRun::new(TRAIN, TEST);
    let explored = synthetic.explore(&[]);
    assert_eq!(explored.get("/").status, 200); // the server has opened what it needs itself
    let pid = Pid::from_child(&explored.child);
    let none = Rlimit { current: Some(0), ..getrlimit(Resource::Nofile) };
    let before = prlimit(Some(pid), Resource::Nofile, none).unwrap();
    let request = format!("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", explored.address);
    let waiting = connected(&explored, &request);
    thread::sleep(Duration::from_secs(1));
    prlimit(Some(pid), Resource::Nofile, before).unwrap();
    assert!(answer(waiting).starts_with("HTTP/1.0 200"));
}

#[test]
fn requests_have_one_end_and_a_bounded_head() {
    let synthetic = SyntheticRun::new(TRAIN, TEST);
    let explored = synthetic.explore(&[]);
    let host = format!("Host: {}\r\n", explored.address);
    let sent = |request: &str| answer(connected(&explored, request));
    let last = format!("GET /icon.svg HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
    let post = |headers: &str| format!("POST /api/uploads HTTP/1.1\r\n{host}{headers}\r\n\r\n");

    // One after the other over one connection, also sent at once; and the old version.
    let first = format!("GET /api/run HTTP/1.1\r\n{host}\r\n");
    assert_eq!(sent(&format!("{first}{first}{last}")).matches("HTTP/1.1 200").count(), 3);
    assert!(sent(&format!("GET / HTTP/1.0\r\n{host}\r\n")).starts_with("HTTP/1.0 200"));
    let expecting = post(
        "Expect: 100-continue\r\nContent-Type: multipart/form-data; boundary=x\r\n\
        Connection: close\r\nContent-Length: 5",
    );
    assert!(sent(&format!("{expecting}--x--")).starts_with("HTTP/1.1 100"));

    // What follows the request is not taken for another one.
    for (headers, status) in [
        ("Transfer-Encoding: chunked", "411"),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked", "411"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4", "411"),
        ("Transfer-Encoding: gzip, chunked", "411"),
        ("Transfer-Encoding: xchunked", "400"),
        ("Transfer-Encoding: chunked, identity", "400"),
        ("Transfer-Encoding : chunked", "400"),
        ("Content-Length: 4\r\nContent-Length: 5", "400"),
        ("Content-Length: +4", "400"),
        ("Content-Length: -4", "400"),
        ("Content-Length: 0x4", "400"),
        ("Content-Length: 18446744073709551616", "400"),
        ("Content-Length : 4", "400"),
        ("X: a\rb", "400"),
        ("X: a\0b", "400"),
    ] {
        let answer = sent(&format!("{}0\r\n\r\n{last}", post(headers)));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{headers}: {answer}");
        assert!(!answer.contains(" 200 "), "{headers}: {answer}");
    }
    for head in ["X".repeat(1 << 20), "X: y\r\n".repeat(5000), format!("X: {}", "y".repeat(70_000))]
    {
        assert!(!sent(&format!("GET / HTTP/1.1\r\n{host}{head}\r\n\r\n")).contains(" 200 "));
    }
    for request in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01", "GET /\r\n\r\n"] {
        assert!(!sent(request).contains(" 200 "), "{request:?}");
    }
    assert_eq!(explored.get("/").status, 200);
}
