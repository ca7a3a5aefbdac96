//! The table from the Atlas's XML.

use std::{fs, io::Write};

use atlas::{
    base::{progress::Progress, stop_request::Stop},
    fetch::read_atlas,
};

use crate::{
    server::{Answer, Server},
    setup::{Setup, ends},
};

const XML: &str = include_str!("atlas.xml");

fn gz(text: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text).unwrap();
    gz.finish().unwrap()
}

#[test]
fn the_table_comes_from_the_atlas_xml() {
    let server = Server::start(|r| Answer::file(r, "application/x-gzip", "e", &gz(XML.as_bytes())));
    let setup = Setup::new(&server.url)
        .set(&format!("fetch.xml_url={}/download/proteinatlas.xml.gz", server.url));
    let want = "Id,Target\n10580_1610_C1_1,0 27\n10580_1610_C1_2,0 7 27\n";
    let table = || fs::read_to_string(setup.data("proteinatlas.csv")).unwrap();
    let xml = setup.data("atlas.xml");
    fs::write(&xml, XML).unwrap();
    let out = setup.fetch(&["external", "--xml", xml.to_str().unwrap(), "--json"]);
    ends(&out, 0, &["`Vesicles`", "3 images"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&json["images"], &json["unlabelled"], &json["foreign"]),
        (&2.into(), &2.into(), &1.into())
    );
    assert_eq!(table(), want);

    // From the server; the XML is kept.
    fs::remove_file(setup.data("proteinatlas.csv")).unwrap();
    setup.fetched(&["external", "--xml"]);
    setup.fetched(&["external", "--xml"]);
    assert_eq!(server.take_paths(), ["/download/proteinatlas.xml.gz"], "once");
    assert_eq!(table(), want);

    // `fetch external` takes the ids from it.
    ends(&setup.fetch(&["external"]), 65, &["8 of 8 files"]);
    assert!(server.take_paths().contains(&"/10580/1610_C1_2_yellow.jpg".into()));

    let broken = |bytes: &[u8]| {
        fs::write(&xml, bytes).unwrap();
        let error =
            read_atlas(&xml, &Progress::new("read XML", "bytes", 0), &Stop::new()).unwrap_err();
        assert_eq!(error.exit_code(), 65);
        error.to_string()
    };
    // Where it ends, where it is wrong, or what it lacks.
    for (bytes, part) in [
        (XML.as_bytes()[..900].to_vec(), "byte "),
        (gz(XML.as_bytes())[..300].to_vec(), "byte "),
        (b"<?xml version=\"1.0\"?><a></b>".to_vec(), "byte "),
        (b"<?xml version=\"1.0\"?><a></a>".to_vec(), "immunofluorescence"),
    ] {
        let error = broken(&bytes);
        assert!(error.contains("atlas.xml") && error.contains(part), "{error}");
    }
    ends(&setup.fetch(&["external", "--xml", xml.to_str().unwrap()]), 65, &["atlas.xml"]);
    assert_eq!(table(), want, "the old table stays");
    fs::rename(setup.data("proteinatlas.csv"), setup.data("mine.csv")).unwrap();
    ends(&setup.fetch(&["external", "--xml"]), 2, &["mine.csv"]);
}
