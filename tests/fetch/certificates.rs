//! Servers whose certificate an authority of the site has signed.
//!
//! `certificates/` holds that authority, a server's certificate for 127.0.0.1 and its key. The key
//! protects nothing. `openssl req -x509` and `openssl x509 -req` made them, valid for 100 years;
//! the authority's key was not kept.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::setup::{Setup, ends, samples};

/// Serves the files of its working directory with the certificate and the key of its arguments, and
/// prints its port.
const SERVER: &str = r#"
import http.server, ssl, sys
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;

fn certificate(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fetch/certificates", name].iter().collect()
}

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_sites_own_authority_is_trusted_where_a_variable_names_it() {
    let (ids, good) = samples(1);
    let site = tempfile::tempdir().unwrap();
    for (path, bytes) in &good {
        let path = site.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let mut server = Command::new("python3");
    server.args(["-c", SERVER]).args([certificate("server.pem"), certificate("server.key")]);
    server.current_dir(site.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Server(server.spawn().unwrap());
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let url = format!("https://127.0.0.1:{}", port.trim());
    let setup = Setup::new(&url).set("fetch.read_timeout_seconds=5");
    setup.table(&ids);

    let out = setup.fetch(&["external"]);
    ends(&out, 1, &["SSL_CERT_FILE", &url, "certificate is not trusted"]);
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!text.contains("run it again") && !text.contains("run again"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(certificate("authority.pem"), folder.path().join("1234abcd.0")).unwrap();
    for (name, place) in [
        ("SSL_CERT_FILE", certificate("authority.pem")),
        ("SSL_CERT_DIR", folder.path().into()),
        ("REQUESTS_CA_BUNDLE", certificate("authority.pem")),
        ("CURL_CA_BUNDLE", certificate("authority.pem")),
    ] {
        let out = setup.command(&["external"]).env(name, place).output().unwrap();
        ends(&out, 0, &[]);
        assert!(setup.images() == good, "{name}");
        fs::remove_dir_all(setup.data("images")).unwrap();
    }
    // A file without certificates does not help, and is named.
    let key = certificate("server.key");
    let out = setup.command(&["external"]).env("SSL_CERT_FILE", &key).output().unwrap();
    ends(&out, 1, &[&format!("SSL_CERT_FILE: no certificate (PEM) in {}", key.display())]);
}
