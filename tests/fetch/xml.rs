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

    // Long text that is of no use is passed over.
    let long = XML.replacen("AAA", &"x".repeat(500_000), 1);
    assert_ne!(long.len(), XML.len());
    fs::write(&xml, long).unwrap();
    setup.fetched(&["external", "--xml", xml.to_str().unwrap()]);
    assert_eq!(table(), want);

    // In several parts, as bgzip and pigz pack it, and padded; what else follows is said.
    let (begin, end) = XML.as_bytes().split_at(700);
    let parts = [gz(begin), gz(end)].concat();
    for (packed, words) in [
        (parts.clone(), None),
        ([&parts[..], &[0; 1000]].concat(), None),
        ([&parts[..], b"<html>"].concat(), Some("not gzip")),
    ] {
        fs::write(&xml, packed).unwrap();
        let out = setup.fetch(&["external", "--xml", xml.to_str().unwrap()]);
        ends(&out, 0, words.as_slice());
        assert_eq!(String::from_utf8_lossy(&out.stderr).contains("not gzip"), words.is_some());
        assert_eq!(table(), want);
    }

    let broken = |bytes: &[u8]| {
        fs::write(&xml, bytes).unwrap();
        let error =
            read_atlas(&xml, &Progress::new("read XML", "bytes", 0), &Stop::new()).unwrap_err();
        assert_eq!(error.exit_code(), 65);
        error.to_string()
    };
    // Where it ends, where it is wrong, or what it lacks; or what it has more than the Atlas, which
    // would take memory and time without end.
    let location = |text: &str| XML.replacen("Nucleoplasm", text, 1).into_bytes();
    let image = "<image imageType=\"sampleImage\"><imageUrl>u</imageUrl></image>".repeat(11_000);
    let images = XML.replacen("<assayImage>", &format!("<assayImage>{image}"), 1).into_bytes();
    // Spread over several elements, each of which has few.
    let unknown = |data: usize| {
        let of = |i: usize| format!("<location>place {data} {i}</location>");
        format!("{}</data><data>", (0..1000).map(of).collect::<String>())
    };
    let unknown: String = (0..11).map(unknown).collect();
    let unknown = XML.replacen("<data>", &format!("<data>{unknown}"), 1).into_bytes();
    let lists = "more than 10000 images or locations of one `data` element, or unknown locations";
    let long = "x".repeat(2 << 20);
    for (bytes, part) in [
        ([b"<p>".to_vec(), b"<a>".repeat(300_000)].concat(), "nested more than 100 deep"),
        (gz(&[b"<p>".to_vec(), b"<a b='c'>".repeat(300_000)].concat()), "nested more than"),
        (location(&long), "more than 1048576 bytes"),
        (location(&format!("<!--{long}-->")), "more than 1048576 bytes"),
        (location(&format!("<![CDATA[{long}]]>")), "more than 1048576 bytes"),
        (location(&format!("<a b='{long}'/>")), "more than 1048576 bytes"),
        (gz(&vec![b' '; 64 << 20]), "more than 1048576 bytes"),
        (location(&"x".repeat(5000)), "more than 4096 bytes"),
        (location(&"&amp;".repeat(5000)), "more than 4096 bytes"),
        (location(&"a</location><location>".repeat(11_000)), lists),
        (images, lists),
        (unknown, lists),
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
