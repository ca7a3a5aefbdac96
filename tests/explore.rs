//! `atlas explore` over real HTTP: what it shows of a synthetic run, and what it refuses.
use std::{
    fs,
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

#[path = "explore/browser.rs"]
mod browser;
#[path = "explore/half_open.rs"]
mod half_open;
#[path = "explore/in_a_browser.rs"]
mod in_a_browser;
#[path = "explore/synthetic.rs"]
mod synthetic;
#[path = "common/needs.rs"]
mod needs;
#[path = "pipeline/small.rs"]
mod small;
#[path = "common/training_state.rs"]
mod training_state;
use atlas::data::contact_sheet::encode_png;
use png::ColorType::{Grayscale, Rgb};
use serde_json::Value;
use synthetic::{EVIL, SIDE, SyntheticRun, THRESHOLD, id, plane, probability, truth};

const TRAIN: usize = 60;
const TEST: usize = 6;

fn numbers(page: &Value) -> Vec<u64> {
    page["rows"].as_array().unwrap().iter().map(|row| row["number"].as_u64().unwrap()).collect()
}

/// The classes above the threshold, else the most probable one.
fn predicted(i: usize) -> Vec<usize> {
    let above: Vec<usize> = (0..28).filter(|&c| probability(i, c) > THRESHOLD).collect();
    let best = (0..28).max_by(|&a, &b| probability(i, a).total_cmp(&probability(i, b))).unwrap();
    if above.is_empty() { vec![best] } else { above }
}

#[test]
fn samples_are_those_of_the_run() {
    let synthetic = SyntheticRun::new(TRAIN, TEST);
    let explored = synthetic.explore(&[]);
    let run = explored.json("/api/run");
    assert_eq!(
        (&run["run"], run["train"].as_u64(), run["test"].as_u64()),
        (&"made".into(), Some(60), Some(6))
    );
    assert_eq!(run["classes"][3]["samples"], (0..TRAIN).filter(|&i| truth(i).contains(3)).count());
    assert!(
        (run["classes"][27]["threshold"].as_f64().unwrap() - f64::from(THRESHOLD)).abs() < 1e-6
    );

    let page = explored.json("/api/samples?count=500");
    assert_eq!(page["rows"].as_array().unwrap().len(), TRAIN + TEST);
    for (i, row) in page["rows"].as_array().unwrap().iter().enumerate().take(TRAIN - 1) {
        assert_eq!(
            (row["id"].as_str().unwrap(), &row["folds"]),
            (&*id(i), &serde_json::json!([i % 2]))
        );
        assert_eq!(row["predicted"], serde_json::json!(predicted(i)), "{i}");
    }
    assert_eq!(
        (&page["rows"][TRAIN - 1]["score"], &page["rows"][TRAIN - 1]["folds"]),
        (&Value::Null, &serde_json::json!([]))
    );

    let missed: Vec<u64> = (0..TRAIN - 1)
        .filter(|&i| truth(i).contains(2) && !predicted(i).contains(&2))
        .map(|i| i as u64)
        .collect();
    assert!(!missed.is_empty());
    assert_eq!(numbers(&explored.json("/api/samples?class=2&relation=missed&count=500")), missed);
    let false_: Vec<u64> = (0..TRAIN - 1)
        .filter(|&i| i % 2 == 1 && !truth(i).contains(2) && predicted(i).contains(&2))
        .map(|i| i as u64)
        .collect();
    assert!(false_.len() > 3);
    let address = "class=2&relation=false&fold=1&sort=lowest";
    let page = explored.json(&format!("/api/samples?{address}&count=3"));
    assert_eq!(page["total"], false_.len());
    let mut sorted = false_.clone();
    sorted.sort_by(|&a, &b| probability(a as usize, 2).total_cmp(&probability(b as usize, 2)));
    assert_eq!(numbers(&page), sorted[..3]);
    let csv = explored.get(&format!("/api/samples.csv?{address}"));
    assert!(csv.head.to_lowercase().contains("content-disposition: attachment"), "{}", csv.head);
    let mut reader = csv::Reader::from_reader(&csv.body[..]);
    let ids: Vec<String> = reader.records().map(|r| r.unwrap()[0].to_string()).collect();
    assert_eq!(ids, sorted.iter().map(|&i| id(i as usize)).collect::<Vec<_>>());

    let image = explored.get("/api/samples/9/image").body;
    assert_eq!(image.len(), SIDE * SIDE * 4);
    assert!((0..4).all(|c| image.iter().skip(c).step_by(4).eq(&plane(9, c))));
    assert_eq!(explored.get("/api/samples/9/thumbnail").body, image, "small as it is");
}

#[test]
fn predictions_equal_those_of_predict_and_neighbours_are_similar() {
    let synthetic = SyntheticRun::new(TRAIN, TEST);
    let explored = synthetic.explore(&[]);
    let test = TRAIN + 2;
    let stored = explored.json(&format!("/api/samples/{test}"));
    let now = explored.json(&format!("/api/samples/{test}/prediction"));
    for c in 0..28 {
        let (stored, now) = (
            stored["probabilities"][c].as_f64().unwrap(),
            now["probabilities"][c].as_f64().unwrap(),
        );
        assert!((stored - now).abs() < 1e-4, "class {c}: {stored} {now}");
    }
    let folds = now["folds"].as_array().unwrap();
    assert!(
        folds.len() == 2 && folds.iter().all(|f| f["logits"].as_array().unwrap().len() == 5),
        "five crops of two folds"
    );
    let width = now["width"].as_u64().unwrap() as usize;
    let maps = now["maps"].as_array().unwrap();
    assert!(maps.len() == 28 && maps.iter().all(|m| m.as_array().unwrap().len() == width * width));
    let own = explored.json("/api/samples/5/prediction");
    assert_eq!(
        (own["folds"].as_array().unwrap().len(), &own["folds"][0]["fold"]),
        (1, &1.into()),
        "by whom it was not seen"
    );

    // 1 is 0, a little brighter.
    let alike = explored.json("/api/samples/0/neighbours?by=hash");
    assert_eq!(alike["rows"][0]["sample"]["number"], 1);
    let started = Instant::now();
    let alike = loop {
        let alike = explored.json("/api/samples/0/neighbours?by=embedding");
        if alike["done"] == alike["of"] {
            break alike;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{alike}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(
        (&alike["done"], &alike["rows"][0]["sample"]["number"]),
        (&(TRAIN + TEST).into(), &1.into())
    );
    assert!(alike["rows"][0]["cosine"].as_f64().unwrap() > 0.99);

    // The same images, dropped, are the same sample.
    let planes: Vec<Vec<u8>> =
        (0..4).map(|c| encode_png(&plane(9, c), SIDE, SIDE, Grayscale).unwrap()).collect();
    let dropped = explored.post(&[
        ("a_green.png", &planes[1]),
        ("a_red.png", &planes[0]),
        ("a_yellow.png", &planes[3]),
        ("a_blue.png", &planes[2]),
    ]);
    assert_eq!(dropped.status, 201, "{}", dropped.text());
    let number = serde_json::from_slice::<Value>(&dropped.body).unwrap()["number"].to_string();
    assert_eq!(
        explored.get(&format!("/api/uploads/{number}/image")).body,
        explored.get("/api/samples/9/image").body
    );
    for by in ["hash", "embedding"] {
        let alike = explored.json(&format!("/api/uploads/{number}/neighbours?by={by}"));
        assert_eq!(alike["rows"][0]["sample"]["number"], 9, "{by}: {alike}");
    }
    assert_eq!(
        explored.json(&format!("/api/uploads/{number}/prediction"))["probabilities"]
            .as_array()
            .unwrap()
            .len(),
        28
    );
}

#[test]
fn hostile_requests_are_refused_with_a_reason() {
    let synthetic = SyntheticRun::new(TRAIN, TEST);
    let explored = synthetic.explore(&[]);
    for path in [
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/api/samples/../../../etc/passwd/image",
        "/api/samples/..%2f..%2fmanifest.csv/image",
        "/api/samples/66/image",
        "/api/samples/-1/image",
        "/api/samples/18446744073709551616/image",
        "/api/samples/0x1/image",
        "/api/files/0/image",
        "/api/uploads/1/image",
        "/api/samples/1/secret",
        "/assets/index.html",
        "/index.html%00",
        "//evil.example/",
    ] {
        explored.get(path).refused(404, "");
    }
    for (query, part) in [
        ("class=28", "28"),
        ("class=x", "class"),
        ("relation=nonsense", "nonsense"),
        ("unknown=1", "`unknown`"),
        ("count=-1", "count"),
        ("part=../x", "part"),
    ] {
        explored.get(&format!("/api/samples?{query}")).refused(400, part);
        explored.get(&format!("/api/samples.csv?{query}")).refused(400, part);
    }
    explored.get("/api/samples/1/neighbours").refused(400, "by");
    let address = &explored.address;
    let send = |line: &str, headers: &str| {
        explored.raw(&format!("{line} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n"))
    };
    let host = format!("Host: {address}\r\n");
    send("GET /api/run", "Host: evil.example\r\n").refused(403, "Host");
    send("GET /", "Host: evil.example:80\r\n").refused(403, "Host");
    send("GET /api/run", &format!("{host}{host}")).refused(400, "Host");
    send("GET http://evil.example/api/run", "Host: evil.example\r\n").refused(403, "Host");
    let post =
        |more: &str| send("POST /api/uploads", &format!("{host}Content-Length: 0\r\n{more}"));
    post("Origin: http://evil.example\r\n").refused(403, "Origin");
    post("Origin: null\r\n").refused(403, "Origin");
    post(&format!("Origin: http://{address}\r\n")).refused(400, "multipart");
    for line in
        ["POST /api/run", "DELETE /api/samples/1", "PUT /", "GET /api/uploads", "PATCH /explore.js"]
    {
        send(line, &format!("{host}Content-Length: 0\r\n")).refused(405, "");
    }
    let page = explored.get("/");
    for header in [
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "frame-ancestors 'none'",
    ] {
        assert!(page.head.to_lowercase().contains(header), "{}", page.head);
    }
    assert!(page.status == 200 && !page.text().contains("<script>"), "no inline script");
    // A hostile id is data, and only ever sent as such.
    let row = explored.get("/api/samples?text=onerror&count=1");
    assert!(row.head.to_lowercase().contains("content-type: application/json"), "{}", row.head);
    assert_eq!(serde_json::from_slice::<Value>(&row.body).unwrap()["rows"][0]["id"], EVIL);
}

#[test]
fn broken_huge_and_wrong_uploads_are_refused_with_a_reason() {
    let synthetic = SyntheticRun::new(TRAIN, TEST);
    let explored = synthetic.explore(&[]);
    let gray = encode_png(&[7; SIDE * SIDE], SIDE, SIDE, Grayscale).unwrap();
    let wide = encode_png(&[0; 4097 * 3], 4097, 1, Rgb).unwrap();
    let mut cut = encode_png(&[9; SIDE * SIDE * 3], SIDE, SIDE, Rgb).unwrap();
    cut.truncate(cut.len() / 2);
    explored.post(&[]).refused(400, "0 files");
    explored.post(&[("a.png", &gray), ("b.png", &gray)]).refused(400, "2 files");
    explored.post(&[("a.png", &gray[..]); 5]).refused(400, "more than four");
    explored.post(&[("a.png", &gray[..]); 4]).refused(400, "_red");
    explored.post(&[("a.png", &gray)]).refused(400, "a.png: a gray image is one channel");
    explored.post(&[("a.png", &wide)]).refused(400, "4097x1");
    explored.post(&[("a.png", &cut)]).refused(400, "broken PNG");
    explored.post(&[(EVIL, b"<svg onload=alert(1)>")]).refused(400, "neither PNG nor JPEG");
    explored.post(&[("../../etc/passwd", b"")]).refused(400, "passwd: the file is empty");
    // A bomb: 30,000 x 30,000 pixels in a few bytes of header.
    let mut bomb = encode_png(&[0; 3], 1, 1, Rgb).unwrap();
    bomb[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let mut crc = flate2::Crc::new();
    crc.update(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    explored.post(&[("bomb.png", &bomb)]).refused(400, "30000x30000");

    // Refused by what it says it will send, and where it does not say.
    let head = format!(
        "POST /api/uploads HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: \
            multipart/form-data; boundary=x\r\n",
        explored.address
    );
    explored.raw(&format!("{head}Content-Length: 9999999999\r\n\r\n")).refused(413, "64 MiB");
    explored
        .raw(&format!("{head}Transfer-Encoding: chunked\r\n\r\n"))
        .refused(411, "Content-Length");
    explored.raw(&format!("{head}Content-Length: 5\r\n\r\nabcde")).refused(400, "cannot be read");
    assert_eq!(explored.get("/").status, 200, "it still answers");
}

#[test]
fn on_other_hosts_it_requires_its_token() {
    let synthetic = SyntheticRun::new(TRAIN, TEST);
    for words in [&["--host", "0.0.0.0"][..], &["--token"]] {
        let explored = synthetic.explore(words);
        let (_, token) = explored.url.split_once("/?token=").unwrap();
        assert_eq!(token.len(), 32);
        let port = explored.address.split_once(':').unwrap().1;
        let get = |path: &str, more: &str| {
            explored.raw(&format!(
                "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{more}\r\n"
            ))
        };
        for path in [
            "/",
            "/explore.js",
            "/api/run",
            "/?token=",
            "/api/run?token=0123456789abcdef0123456789abcdef",
        ] {
            get(path, "").refused(401, "token");
        }
        get("/api/run", "Cookie: atlas=1\r\n").refused(401, "token");
        let entered = get(&format!("/?token={token}"), "");
        assert_eq!(entered.status, 303);
        let head = entered.head.to_lowercase();
        let cookie = format!("atlas-{port}={token}");
        assert!(
            head.contains("location: /\r\n")
                && head.contains(&format!("set-cookie: {cookie}; httponly; samesite=lax")),
            "{head}"
        );
        assert_eq!(get("/api/run", &format!("Cookie: {cookie}\r\n")).status, 200);
    }
    let explored = synthetic.explore(&[]);
    assert!(
        explored.url.starts_with("http://127.0.0.1:") && explored.url.ends_with('/'),
        "{}",
        explored.url
    );
}

#[test]
fn it_starts_and_stops_cleanly() {
    let synthetic = SyntheticRun::new(TRAIN, TEST);
    let mut explored = synthetic.explore(&[]);
    let port = explored.address.split_once(':').unwrap().1.to_string();
    let taken = synthetic.command(&["--port", &port]).output().unwrap();
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(
        taken.status.code() == Some(2)
            && said.contains(&format!("port {port}"))
            && said.contains("--port"),
        "{said}"
    );
    // With a connection that stays open, and a question that goes on.
    let mut idle = TcpStream::connect(&explored.address).unwrap();
    write!(
        idle,
        "GET /api/samples/0/neighbours?by=embedding HTTP/1.1\r\nHost: {}\r\n\r\n",
        explored.address
    )
    .unwrap();
    explored.interrupt();
    let started = Instant::now();
    assert_eq!(explored.child.wait().unwrap().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());

    // Without thresholds and test predictions it shows what there is.
    let run = synthetic.config.parent().unwrap();
    fs::remove_file(run.join("thresholds.csv")).unwrap();
    fs::remove_dir_all(run.join("predictions")).unwrap();
    let explored = synthetic.explore(&[]);
    assert_eq!(explored.json("/api/run")["method"], "half");
    assert_eq!(explored.json("/api/samples?part=test&count=1")["rows"][0]["score"], Value::Null);
    drop(explored);
    // And without the checkpoint of a fold: only that one cannot be asked.
    fs::remove_dir_all(run.join("fold_1/model_checkpoints")).unwrap();
    let explored = synthetic.explore(&[]);
    assert_eq!(explored.json("/api/samples/1")["sample"]["folds"], serde_json::json!([1]));
    assert_eq!(explored.json("/api/samples?count=1")["rows"][0]["id"], id(0));
    assert_eq!(explored.json("/api/samples/0/prediction")["folds"][0]["fold"], 0);
    explored.get("/api/samples/1/prediction").refused(500, "fold_1");
    drop(explored);
    fs::remove_dir_all(synthetic.work.join("shards")).unwrap();
    let out = synthetic.command(&["--port", "0"]).output().unwrap();
    assert_eq!(out.status.code(), Some(65), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(String::from_utf8_lossy(&out.stderr).contains("`atlas preprocess"));
    fs::remove_dir_all(run).unwrap();
    let out = synthetic.command(&["--port", "0"]).output().unwrap();
    assert!(!out.status.success());
}

/// Prints how long a page takes and how much memory, with as many samples as the competition and
/// the external set together have.
#[test]
#[ignore = "makes a hundred thousand samples"]
fn a_hundred_thousand_samples() {
    let synthetic = SyntheticRun::new(95_000, 5_000);
    let started = Instant::now();
    let explored = synthetic.explore(&[]);
    println!("start until the address is printed: {:.2} s", started.elapsed().as_secs_f64());
    let seconds = |path: &str| {
        let started = Instant::now();
        let answer = explored.get(path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        started.elapsed().as_secs_f64()
    };
    let memory = |key: &str| {
        let text = fs::read_to_string(format!("/proc/{}/status", explored.child.id())).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap().to_string();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    };
    let mut page = [
        "/",
        "/explore.css",
        "/explore.js",
        "/page.js",
        "/image.js",
        "/sample.js",
        "/api/run",
        "/api/samples?count=60",
    ]
    .map(seconds)
    .iter()
    .sum::<f64>();
    page += (0..60).map(|i| seconds(&format!("/api/samples/{i}/thumbnail"))).sum::<f64>();
    println!(
        "first page with its 60 thumbnails, one after the other: {page:.3} s; {} MiB",
        memory("VmRSS")
    );
    for query in [
        "class=2&relation=missed",
        "relation=wrong&sort=worst",
        "class=0&min=0.3&max=0.6&sort=highest",
        "text=99+nucleoli",
        "sort=id&from=99900",
    ] {
        println!("{query}: {:.3} s", seconds(&format!("/api/samples?{query}&count=60")));
    }
    println!("neighbours by hash: {:.3} s", seconds("/api/samples/777/neighbours?by=hash"));
    println!("all as CSV: {:.2} s", seconds("/api/samples.csv"));
    println!(
        "first prediction, networks loaded: {:.2} s; {} MiB",
        seconds("/api/samples/777/prediction"),
        memory("VmRSS")
    );
    println!(
        "first neighbours by embedding: {:.2} s",
        seconds("/api/samples/777/neighbours?by=embedding")
    );
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(300) {
        let of = explored.json("/api/samples/777/neighbours?by=embedding");
        if of["done"] == of["of"] {
            break;
        }
        std::thread::sleep(Duration::from_secs(2));
    }
    let again = explored.json("/api/samples/777/neighbours?by=embedding");
    println!(
        "embedded after {:.0} s: {} of {}",
        started.elapsed().as_secs_f64(),
        again["done"],
        again["of"]
    );
    println!(
        "neighbours by embedding: {:.3} s; at the most {} MiB",
        seconds("/api/samples/777/neighbours?by=embedding"),
        memory("VmHWM")
    );
    assert_eq!(explored.json("/api/samples")["total"], 100_000);
}
