//! The page as its users see it, in a headless Chromium. ATLAS_AXE names axe-core's axe.min.js;
//! ATLAS_SHOTS a folder for screenshots.

use std::{
    fs,
    time::{Duration, Instant},
};

use atlas::data::contact_sheet::encode_png;
use png::ColorType::Grayscale;

use crate::{
    browser::Browser,
    needs,
    small::{Small, succeeds},
    synthetic::{EVIL, Explored, SIDE, SyntheticRun, plane},
};

/// The pixels of the first canvas that a selector finds, `[size, size, 4]` red, green, blue and
/// opaque.
fn pixels(browser: &Browser, selector: &str) -> Vec<u64> {
    let script = format!(
        "const c = document.querySelector('{selector}'); return \
            [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    );
    browser.run(&script).as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect()
}

/// In both schemes, wide and narrow: fits the screen, axe finds nothing; and screenshots.
fn look(browser: &Browser, name: &str) {
    let axe = std::env::var("ATLAS_AXE").expect("this test needs ATLAS_AXE, axe-core's axe.min.js");
    let axe = fs::read_to_string(axe).unwrap();
    let shots = std::env::var_os("ATLAS_SHOTS").map(std::path::PathBuf::from);
    for (scheme, width, height) in
        [("light", 1280, 900), ("dark", 1280, 900), ("light", 390, 844), ("dark", 390, 844)]
    {
        browser.colours(scheme);
        browser.size(width, height);
        let wide = browser.run("return document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= u64::from(width), "{name}: {wide} pixels wide on {width}");
        assert_eq!(browser.findings(&axe), [""; 0], "{name}, {scheme}, {width}");
        if let Some(folder) = &shots {
            browser.screenshot(&folder.join(format!("{name}-{scheme}-{width}.png")));
        }
    }
    browser.size(1280, 900);
}

/// The console has no complaint but those `expected`, and of at least `least` requests none went to
/// anybody else.
fn nothing_wrong(
    browser: &Browser,
    explored: &Explored,
    least: usize,
    expected: impl Fn(&str) -> bool,
) {
    // Canvases are read often by these tests, which Chromium has advice about.
    let ours = |complaint: &String| expected(complaint) || complaint.contains("willReadFrequently");
    let complaints: Vec<String> = browser.complaints().into_iter().filter(|c| !ours(c)).collect();
    assert_eq!(complaints, [""; 0]);
    let requests = browser.requests();
    assert!(requests.len() > least, "{requests:?}");
    let ours = format!("http://{}/", explored.address);
    let others: Vec<&String> = requests.iter().filter(|url| !url.starts_with(&ours)).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
#[ignore = "needs chromedriver and ATLAS_AXE"]
fn in_a_browser_everything_works_without_other_hosts() {
    let browser = Browser::start();
    let (train, test) = (300, 6);
    let synthetic = SyntheticRun::new(train, test);
    let explored = synthetic.explore(&["--token"]);
    let api = synthetic.explore(&[]);
    browser.post("/url", serde_json::json!({ "url": explored.url }));
    browser.until("document.querySelectorAll('#samples li').length === 60");
    assert_eq!(browser.run("return location.search"), "", "the token is gone from the address");
    look(&browser, "list");

    // Channels: all four as they should be mixed, then green alone, then brighter.
    let shown = |i: usize, [red, green, blue, yellow]: [f64; 4]| -> Vec<u64> {
        let value = |c: usize, p: usize, gain: f64| (f64::from(plane(i, c)[p]) * gain).min(255.0);
        let rounded = |v: f64| v.min(255.0).round_ties_even() as u64;
        (0..SIDE * SIDE)
            .flat_map(|p| {
                let both = value(3, p, yellow) / 2.0;
                [
                    rounded(value(0, p, red) + both),
                    rounded(value(1, p, green) + both),
                    rounded(value(2, p, blue)),
                    255,
                ]
            })
            .collect()
    };
    browser.until("document.querySelector('#samples canvas').width === 32");
    assert!(pixels(&browser, "#samples canvas") == shown(0, [1.0; 4]));
    for channel in ["red", "blue", "yellow"] {
        browser.click(&format!("button.{channel}"));
    }
    assert!(pixels(&browser, "#samples canvas") == shown(0, [0.0, 1.0, 0.0, 0.0]));
    browser.keys("#channels div:nth-child(2) input", "\u{e014}"); // arrow right
    assert!(pixels(&browser, "#samples canvas") == shown(0, [0.0, 1.25, 0.0, 0.0]));
    browser.keys("body", "1");
    assert!(
        pixels(&browser, "#samples canvas") == shown(0, [1.0, 1.25, 0.0, 0.0]),
        "key 1 switches red"
    );
    browser.click("#channels > button");
    assert!(pixels(&browser, "#samples canvas") == shown(0, [1.0; 4]));

    // Filters, and what they download.
    let total = |query: &str| api.json(&format!("/api/samples?{query}"))["total"].to_string();
    browser.click("select[name=class] option[value='2']");
    browser.click("select[name=relation] option[value=missed]");
    let missed = total("class=2&relation=missed");
    browser.until(&format!(
        "document.querySelector('#where').textContent.endsWith('of {missed} samples')"
    ));
    assert_eq!(
        browser.run("return document.querySelectorAll('#samples .missed').length > 0"),
        true
    );
    let folder = tempfile::tempdir().unwrap();
    browser.cdp(
        "Browser.setDownloadBehavior",
        serde_json::json!({ "behavior": "allow", "downloadPath": folder.path() }),
    );
    browser.click("#csv");
    let file = folder.path().join("samples.csv");
    let started = Instant::now();
    while !file.exists() {
        assert!(started.elapsed() < Duration::from_secs(10), "nothing was downloaded");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(csv::Reader::from_path(file).unwrap().records().count().to_string(), missed);
    browser.click("button[type=reset]");
    browser.keys("input[name=text]", "onerror");
    browser.until("document.querySelectorAll('#samples li').length === 1");
    assert_eq!(browser.run("return document.querySelector('#samples .id').textContent"), EVIL);
    assert_eq!(
        browser.run("return document.querySelectorAll('img').length"),
        0,
        "the id is text, no element"
    );
    browser.click("button[type=reset]");
    browser.until("document.querySelectorAll('#samples li').length === 60");
    browser.click("#next");
    browser.until("document.querySelector('#where').textContent.startsWith('61 to 120')");

    // One sample: its classes, the networks, the map, the next one by key.
    browser.click("#samples li:last-child button");
    browser.until("document.querySelector('#title').textContent === 'made-000119'");
    browser.until("document.querySelectorAll('#neighbours li').length === 12");
    let plain = pixels(&browser, "#view");
    assert!(plain == shown(119, [1.0; 4]));
    browser.click("#look");
    browser.until("!document.querySelector('#crops').hidden");
    let map = "const o = document.querySelector('#map'); return o.value";
    assert_ne!(browser.run(map), "");
    let heated = (0..28).find(|c| {
        browser.click(&format!("#map option[value='{c}']"));
        pixels(&browser, "#view") != plain
    });
    assert!(heated.is_some(), "no map of any class is seen");
    assert_eq!(
        browser.run("return document.querySelectorAll('#logits thead th').length"),
        6,
        "five crops of one fold"
    );
    browser.click("#crops summary");
    look(&browser, "sample");
    browser.click("#by option[value=embedding]");
    browser.until("/cosine/.test(document.querySelector('#neighbours').textContent)");
    browser.keys("#close", "\u{e014}");
    browser.until("document.querySelector('#title').textContent === 'made-000120'");
    browser.until("document.querySelector('#where').textContent.startsWith('121 to 180')");
    browser.keys("#close", "\u{e00c}"); // Escape
    browser.until("!document.querySelector('dialog').open");

    // Images of one's own: a wrong one is told, four good ones are shown.
    let write = |name: &str, bytes: &[u8]| {
        fs::write(folder.path().join(name), bytes).unwrap();
        folder.path().join(name).display().to_string()
    };
    browser.keys("#files", &write("evil.png", b"<b>no image</b>"));
    browser.until(
        "/evil.png: neither PNG nor JPEG/.test(document.querySelector('#dropped').textContent)",
    );
    let four = ["red", "green", "blue", "yellow"].iter().enumerate();
    let four = four.map(|(c, name)| {
        write(&format!("x_{name}.png"), &encode_png(&plane(9, c), SIDE, SIDE, Grayscale).unwrap())
    });
    browser.keys("#files", &four.collect::<Vec<_>>().join("\n"));
    browser.until(
        "document.querySelector('#title').textContent === 'Your image' && \
            document.querySelectorAll('#classes tr').length === 28",
    );
    browser.click("#map option[value='']");
    browser.until("document.querySelector('#view').width === 32");
    assert!(pixels(&browser, "#view") == shown(9, [1.0; 4]));

    // It complains of the image that was refused on purpose.
    nothing_wrong(&browser, &explored, 100, |complaint| {
        complaint.contains("/api/uploads") && complaint.contains("400")
    });
}

/// The pipeline's own run over real images, as a user has it.
#[test]
#[ignore = "needs chromedriver, ATLAS_AXE and ../shared/data"]
fn a_run_on_real_images_in_a_browser() {
    let browser = Browser::start();
    let mut small = Small::real(&needs::shared_data());
    small
        .set("preprocess.size=256")
        .set("augment.resize=192")
        .set("augment.crop=128")
        .set("train.epochs=3");
    succeeds(&small.run(&["run", "--run", "real"]));
    let explored = Explored::start(small.job(&["explore", "--run", "real"]));
    browser.post("/url", serde_json::json!({ "url": explored.url }));
    browser.until("document.querySelectorAll('#samples li').length === 38");

    // A thumbnail is its image, smaller: the same mean of each channel.
    let mean = |bytes: &[u8], c: usize| {
        bytes.iter().skip(c).step_by(4).map(|&p| f64::from(p)).sum::<f64>()
            / (bytes.len() / 4) as f64
    };
    let [large, thumbnail] =
        ["image", "thumbnail"].map(|of| explored.get(&format!("/api/samples/4/{of}")).body);
    assert_eq!((large.len(), thumbnail.len()), (256 * 256 * 4, 96 * 96 * 4));
    for c in 0..4 {
        let (large, thumbnail) = (mean(&large, c), mean(&thumbnail, c));
        assert!(
            (large - thumbnail).abs() < 0.5 + 0.02 * large,
            "channel {c}: {large}, as a thumbnail {thumbnail}"
        );
    }

    let first = || pixels(&browser, "#samples canvas");
    browser.until("document.querySelector('#samples canvas').width === 96");
    browser.until(
        "document.querySelector('#samples canvas').getContext('2d').getImageData(48, 48, \
        1, 1).data[3] === 255",
    );
    let all = first();
    ["red", "blue", "yellow"]
        .iter()
        .for_each(|channel| browser.click(&format!("button.{channel}")));
    let green = first();
    assert!(
        green != all
            && green.chunks(4).all(|p| (p[0], p[2]) == (0, 0))
            && green.chunks(4).any(|p| p[1] > 0)
    );
    browser.click("#channels > button");
    look(&browser, "real-list");

    // Sorted by loss, the worst first, and what that downloads.
    browser.click("select[name=part] option[value=train]");
    browser.click("select[name=sort] option[value=worst]");
    browser.until("document.querySelector('#where').textContent.endsWith('of 30 samples')");
    let text = explored.get("/api/samples.csv?part=train&sort=worst").text();
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let loss = table.headers().unwrap().iter().position(|name| name == "loss").unwrap();
    let rows: Vec<_> = table.records().map(Result::unwrap).collect();
    let worst = rows[0][0].to_string();
    let losses: Vec<f64> = rows.iter().map(|row| row[loss].parse().unwrap()).collect();
    assert!(losses.len() == 30 && losses.is_sorted_by(|a, b| a >= b), "{losses:?}");
    browser.until(&format!("document.querySelector('#samples .id').textContent === '{}'", worst));

    browser.click("#samples li:first-child button");
    browser.until("document.querySelectorAll('#neighbours li').length === 12");
    browser.click("#look");
    browser.until("!document.querySelector('#crops').hidden");
    look(&browser, "real-sample");
    browser.keys("#close", "\u{e00c}"); // Escape
    browser.until("!document.querySelector('dialog').open");

    // Its own four files, dropped, are the nearest neighbour of what they made.
    let folder = ["data/train", "data/external/images"].map(|folder| small.path(folder));
    let of = |name: &str| worst == name.rsplit_once('_').unwrap().0;
    let list = |folder: &String| {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>()
    };
    let files: Vec<_> = folder
        .iter()
        .flat_map(list)
        .filter(|path| of(path.file_name().unwrap().to_str().unwrap()))
        .collect();
    let files: Vec<String> =
        files.iter().map(|path: &std::path::PathBuf| path.display().to_string()).collect();
    assert_eq!(files.len(), 4);
    browser.keys("#files", &files.join("\n"));
    browser.until(
        "document.querySelector('#title').textContent === 'Your image' && \
            document.querySelectorAll('#classes tr').length === 28",
    );
    browser
        .until(&format!("document.querySelector('#neighbours .id')?.textContent === '{}'", worst));
    nothing_wrong(&browser, &explored, 38, |_| false);
}
