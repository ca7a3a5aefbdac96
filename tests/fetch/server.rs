//! A small HTTP/1.1 server with the faults that a test needs. It logs requests and counts
//! connections.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    /// With names in lower case.
    pub headers: HashMap<String, String>,
    /// Earlier requests for this path.
    pub earlier: usize,
    pub at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Send only so many bytes of the body, then close the connection.
    pub cut: Option<usize>,
    /// Instead of closing it, wait until the other side does.
    pub stall: bool,
    /// Do not state the length; the end of the connection is the end of the body.
    pub unsized_: bool,
    /// Wait so long before the answer.
    pub delay: Duration,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        let body = b"<html>no</html>".to_vec();
        let headers = vec![("Content-Type", "text/html".into())];
        Self {
            status,
            headers,
            body,
            cut: None,
            stall: false,
            unsized_: false,
            delay: Duration::ZERO,
        }
    }

    /// A file as a file server sends it, with support for ranges.
    pub fn file(request: &Request, content_type: &str, etag: &str, body: &[u8]) -> Self {
        let mut answer = Self::status(200);
        answer.headers = vec![
            ("Content-Type", content_type.into()),
            ("ETag", format!("\"{etag}\"")),
            ("Accept-Ranges", "bytes".into()),
        ];
        let same = request.header("if-range").is_none_or(|v| v == format!("\"{etag}\""));
        let start = request
            .header("range")
            .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match start.filter(|_| same) {
            Some(start) if start < body.len() => {
                answer.status = 206;
                answer.headers.push((
                    "Content-Range",
                    format!("bytes {start}-{}/{}", body.len() - 1, body.len()),
                ));
                answer.body = body[start..].into();
            }
            Some(_) => answer.status = 416,
            None => answer.body = body.into(),
        }
        answer
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn cut(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub fn stall(mut self) -> Self {
        self.stall = true;
        self
    }

    pub fn delay(mut self, milliseconds: u64) -> Self {
        self.delay = Duration::from_millis(milliseconds);
        self
    }
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// Runs until the test ends.
#[derive(Clone)]
pub struct Server {
    pub url: String,
    log: Arc<Mutex<Vec<Request>>>,
    peak: Arc<AtomicUsize>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url, log: Arc::default(), peak: Arc::default() };
        let (handler, ours): (Arc<Handler>, _) = (Arc::new(handler), server.clone());
        thread::spawn(move || {
            let mut open: Vec<TcpStream> = Vec::new();
            for stream in listener.incoming().map(Result::unwrap) {
                open.retain(is_open);
                open.push(stream.try_clone().unwrap());
                ours.peak.fetch_max(open.len(), SeqCst);
                let (handler, log) = (handler.clone(), ours.log.clone());
                thread::spawn(move || {
                    converse(&stream, &*handler, &log);
                    // Clones of the socket keep it open otherwise.
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        server
    }

    /// The requests since the last call.
    pub fn take_log(&self) -> Vec<Request> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    /// The paths of the requests since the last call, sorted.
    pub fn take_paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = self.take_log().into_iter().map(|r| r.path).collect();
        paths.sort();
        paths
    }

    pub fn requests(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    /// Most connections that were open at a time.
    pub fn peak(&self) -> usize {
        self.peak.load(SeqCst)
    }
}

/// Whether neither side has closed it.
fn is_open(stream: &TcpStream) -> bool {
    let mut byte = 0u8;
    // SAFETY: one byte into one byte.
    let n = unsafe {
        libc::recv(
            stream.as_raw_fd(),
            (&raw mut byte).cast(),
            1,
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    n > 0 || (n < 0 && std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock)
}

/// Answers the requests of one connection.
fn converse(mut stream: &TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>) {
    let mut seen = Vec::new();
    loop {
        while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(n) if n > 0 => seen.extend(&buffer[..n]),
                _ => return,
            }
        }
        let text = String::from_utf8(std::mem::take(&mut seen)).unwrap();
        let mut lines = text.lines();
        let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_string();
        let headers = lines
            .filter_map(|l| l.split_once(':'))
            .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_string()))
            .collect();
        let request = {
            let mut log = log.lock().unwrap();
            let earlier = log.iter().filter(|r| r.path == path).count();
            log.push(Request { path, headers, earlier, at: Instant::now() });
            log.last().unwrap().clone()
        };
        let answer = handler(&request);
        thread::sleep(answer.delay);
        let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
        if !answer.unsized_ {
            head += &format!("Content-Length: {}\r\n", answer.body.len());
        }
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let body = &answer.body[..answer.cut.unwrap_or(usize::MAX).min(answer.body.len())];
        if stream
            .write_all(format!("{head}\r\n").as_bytes())
            .and_then(|()| stream.write_all(body))
            .is_err()
        {
            return;
        }
        if answer.stall {
            let _ = stream.read(&mut [0]);
        }
        if answer.stall || answer.unsized_ || body.len() < answer.body.len() {
            return;
        }
    }
}
