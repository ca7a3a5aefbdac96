//! A headless Chromium, led over WebDriver.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

pub struct Browser {
    driver: Child,
    session: String,
    agent: ureq::Agent,
}

impl Browser {
    pub fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs chromedriver");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines
            .find_map(|l| {
                Some(l.split_once("successfully on port ")?.1.trim_end_matches('.').to_string())
            })
            .expect("its port");
        thread::spawn(move || lines.for_each(drop));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut browser =
            Self { driver, session: format!("http://127.0.0.1:{port}/session"), agent };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--window-size=1280,900",
        ];
        let options = json!({ "args": arguments, "binary": "/usr/bin/chromium" });
        let logs = json!({ "browser": "ALL", "performance": "ALL" });
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": logs });
        let session = browser.post("", json!({ "capabilities": { "alwaysMatch": wanted } }));
        browser.session = format!("{}/{}", browser.session, session["sessionId"].as_str().unwrap());
        browser
    }

    pub fn post(&self, path: &str, body: Value) -> Value {
        let mut response = self
            .agent
            .post(format!("{}{path}", self.session))
            .content_type("application/json")
            .send(body.to_string())
            .unwrap();
        let text = response.body_mut().with_config().limit(100 << 20).read_to_string().unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert!(response.status().is_success(), "{path} {body}: {answer}");
        answer["value"].clone()
    }

    /// What JavaScript returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
    }

    pub fn cdp(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    fn find(&self, selector: &str) -> String {
        let found = self.post("/element", json!({ "using": "css selector", "value": selector }));
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().into()
    }

    pub fn click(&self, selector: &str) {
        self.post(&format!("/element/{}/click", self.find(selector)), json!({}));
    }

    pub fn keys(&self, selector: &str, text: &str) {
        self.post(&format!("/element/{}/value", self.find(selector)), json!({ "text": text }));
    }

    /// Waits until an expression holds.
    pub fn until(&self, expression: &str) {
        let start = Instant::now();
        while self.run(&format!("return Boolean({expression})")) != true {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "waited too long until {expression}; {}",
                self.run("return document.body.innerText")
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn colours(&self, scheme: &str) {
        self.cdp(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
    }

    pub fn size(&self, width: u32, height: u32) {
        let size = json!({
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 600,
        });
        self.cdp("Emulation.setDeviceMetricsOverride", size);
    }

    /// A PNG in base64 goes to a file, by the system's own decoder.
    pub fn screenshot(&self, path: &Path) {
        use std::io::Write;
        let shot = self.cdp("Page.captureScreenshot", json!({}));
        let mut decoder = Command::new("base64")
            .arg("-d")
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(path).unwrap())
            .spawn()
            .unwrap();
        decoder.stdin.take().unwrap().write_all(shot["data"].as_str().unwrap().as_bytes()).unwrap();
        assert!(decoder.wait().unwrap().success());
    }

    /// Serious and critical findings of axe-core, whose source this is.
    pub fn findings(&self, axe: &str) -> Vec<String> {
        let script = format!(
            "{axe};const done = arguments[0]; axe.run({{ resultTypes: ['violations'] }}).then((r) \
                => done(r.violations));"
        );
        let found = self.post("/execute/async", json!({ "script": script, "args": [] }));
        let serious =
            |v: &&Value| ["serious", "critical"].contains(&v["impact"].as_str().unwrap_or(""));
        let said = |v: &Value| {
            format!(
                "{}: {}",
                v["id"],
                v["nodes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|n| n["html"].to_string())
                    .collect::<String>()
            )
        };
        found.as_array().unwrap().iter().filter(serious).map(said).collect()
    }

    /// What the console complained of.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" }));
        log.as_array()
            .unwrap()
            .iter()
            .filter(|e| e["level"] != "INFO")
            .map(|e| e["message"].to_string())
            .collect()
    }

    /// Addresses that were asked for.
    pub fn requests(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "performance" }));
        let message = |e: &Value| {
            serde_json::from_str::<Value>(e["message"].as_str().unwrap()).unwrap()["message"]
                .clone()
        };
        let messages = log.as_array().unwrap().iter().map(message);
        let sent = messages.filter(|m| m["method"] == "Network.requestWillBeSent");
        sent.map(|m| m["params"]["request"]["url"].as_str().unwrap().to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
