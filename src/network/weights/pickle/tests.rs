use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Pickle {
    parse(bytes).unwrap().0
}

/// The class of an opaque object.
fn class(pickle: &Pickle, value: Value) -> &str {
    let Some(Object::Opaque { class, .. }) = pickle.object(value) else { panic!("{pickle:?}") };
    pickle.name(*class).unwrap()
}

#[test]
fn what_is_broken_is_refused() {
    for (bytes, what) in [
        (&b"\x80\x06\x95."[..], "protocol 6"),
        (b"\x80\x02(ios\nsystem\n.", "opcode 0x69"),
        (b"\x80\x02t.", "cut off"),
        (b"\x80\x02K\x01(.", "cut off"),
        (b"\x80\x02K\x01(0.", "cut off"),
        (b"\x80\x02h\x07.", "cut off"),
        (b"\x80\x02}K\x01s.", "cut off"),
        (b"\x80\x02K\x01R.", "cut off"),
        (b"\x80\x02b.", "cut off"),
        (b"\x80\x04K\x01K\x02\x93.", "cut off"),
        (b"\x80\x02X\xff\xff\xff\xffa", "cut off"),
        (b"\x80\x02\x8b\xff\xff\xff\xff\x01.", "cut off"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.", "cut off"),
        (b"", "cut off"),
    ] {
        let e = parse(bytes).unwrap_err();
        assert!(e.contains(what), "{what}: {e}");
    }
}

/// No call is made: its object is opaque, whatever is done with it.
#[test]
fn calls_are_noted_and_not_made() {
    for (bytes, name) in [
        (&b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR."[..], "os.system"),
        (b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", "builtins.eval"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "torch.FloatStorage"),
        (b"\x80\x02ccollections\nOrderedDict\n(K\x01tR.", "collections.OrderedDict"),
        (b"\x80\x02cargparse\nNamespace\n)\x81}X\x01\x00\x00\x00aK\x01sb.", "argparse.Namespace"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93)R.", "os.system"),
        (b"\x80\x04cm\nClass\n)}\x92K\x01a.", "m.Class"),
        (b"\x80\x02(cm\nClass\nK\x01o.", "m.Class"),
        (b"\x80\x02\x82\x07)R.", "extension 7"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nNR.", "torch._utils._rebuild_tensor_v2"),
    ] {
        let read = read(bytes);
        assert_eq!(class(&read, read.root), name);
    }
}

/// pickle.dumps of {"a": {1, 2}, "b": frozenset({3}), "c": b"xy", "d": bytearray(b"z")}, which
/// protocols 2 and 5 write in their own ways, and a key after them.
#[test]
fn later_values_are_found_after_those_that_are_passed_over() {
    let of_2 = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01c__builtin__\nset\nq\x02]q\x03(K\x01K\x02e\
        \x85q\x04Rq\x05X\x01\x00\x00\x00bq\x06c__builtin__\nfrozenset\nq\x07]q\x08K\x03a\x85q\tRq\n\
        X\x01\x00\x00\x00cq\x0bc_codecs\nencode\nq\x0cX\x02\x00\x00\x00xyq\rX\x06\x00\x00\x00latin1\
        q\x0e\x86q\x0fRq\x10X\x01\x00\x00\x00zK\x09u.";
    let of_5 = b"\x80\x05\x95\x2d\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94\x8f\x94(K\x01K\x02\x90\
        \x8c\x01b\x94(K\x03\x91\x94\x8c\x01c\x94C\x02xy\x94\x8c\x01d\x94\x96\x01\0\0\0\0\0\0\0z\
        \x94\x8c\x01zK\x09u.";
    for bytes in [&of_2[..], of_5] {
        let read = read(bytes);
        let last = read.dict(read.root).unwrap().last().unwrap();
        assert_eq!((read.text(last.0), last.1), (Some("z"), Value::Int(9)));
    }
}

/// An object with pairs is a dictionary, such as one of a class of the training script.
#[test]
fn a_dictionary_of_any_class_is_one() {
    let read = read(b"\x80\x02caddict\nDict\n)\x81X\x01\x00\x00\x00aK\x01s}b.");
    let pairs = read.dict(read.root).unwrap();
    assert!(pairs.len() == 1 && read.text(pairs[0].0) == Some("a"));
}

/// A million objects and references are enough; a hundred bytes per byte of the file are not.
#[test]
fn memory_is_bounded() {
    for (unit, times) in [(&b"]"[..], 1_000_001), (b"\x94", 1_000_001)] {
        let bytes = [&b"\x80\x04N"[..], &unit.repeat(times), b"."].concat();
        assert!(parse(&bytes).unwrap_err().contains("1000000"));
    }
    // Ten thousand references to one long module name do not copy it.
    let name = [&b"\x80\x04X\x00\x00\x10\x00"[..], &b"m".repeat(1 << 20), b"\x94"].concat();
    let bytes = [&name[..], &b"h\x00h\x00\x93".repeat(10_000), b"."].concat();
    let read = read(&bytes);
    assert!(read.name(read.root).unwrap().len() < 1000);
}

#[test]
fn numbers_are_read_as_python_wrote_them() {
    // pickle.dumps([255, -1, 65535, 2**40, -2**40, 2**80, True, 0.5], 2)
    let bytes = b"\x80\x02]q\x00(K\xffJ\xff\xff\xff\xffM\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01\
                  \x8a\x06\x00\x00\x00\x00\x00\xff\
                  \x8a\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\
                  \x88G?\xe0\x00\x00\x00\x00\x00\x00e.";
    let read = read(bytes);
    let Some(Object::Sequence(items)) = read.object(read.root) else { panic!("{read:?}") };
    let (int, other) = (Value::Int, Value::Other);
    let ints = [int(255), int(-1), int(65535), int(1 << 40), int(-1 << 40)];
    assert_eq!((&items[..5], &items[5..]), (&ints[..], &[other; 3][..]));
}

/// Valid opcodes with short arguments, so that random programs run for many steps.
fn program() -> impl Strategy<Value = Vec<u8>> {
    const NAMES: [&str; 3] = [
        "ccollections\nOrderedDict\n",
        "ctorch\nFloatStorage\n",
        "ctorch._utils\n_rebuild_tensor_v2\n",
    ];
    let word = prop_oneof![
        proptest::sample::select(
            &b"(}])tae su.RbQN012ol\x81\x85\x86\x87\x8f\x90\x91\x92\x93\x94"[..]
        )
        .prop_map(|b| vec![b]),
        (proptest::sample::select(&b"qhK"[..]), 0u8..4).prop_map(|(op, n)| vec![op, n]),
        proptest::sample::select(&NAMES[..]).prop_map(|name| name.as_bytes().to_vec()),
        Just(b"X\x07\x00\x00\x00storage".to_vec()),
    ];
    proptest::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_program_causes_a_panic(bytes in program()) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }
}
