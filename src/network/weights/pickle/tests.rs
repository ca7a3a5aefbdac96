use proptest::prelude::*;

use super::*;

#[test]
fn anything_but_a_state_dict_is_refused_by_name() {
    for (bytes, what) in [
        (&b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR."[..], "`os.system`"),
        (b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", "`builtins.eval`"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "`torch.FloatStorage`"),
        (b"\x80\x02ccollections\nOrderedDict\n(K\x01tR.", "`collections.OrderedDict`"),
        (b"\x80\x04\x95.", "protocol 4"),
        (b"\x80\x02(ios\nsystem\n.", "opcode 0x69"),
        (b"\x80\x02]}b.", "attributes"),
        (b"\x80\x02t.", "cut off"),
        (b"\x80\x02K\x01(.", "cut off"),
        (b"\x80\x02K\x01(0.", "opcode 0x30"),
        (b"\x80\x02h\x07.", "cut off"),
        (b"\x80\x02X\xff\xff\xff\xffa", "cut off"),
        (b"", "cut off"),
    ] {
        let e = parse(bytes).unwrap_err();
        assert!(e.contains(what), "{what}: {e}");
    }
}

#[test]
fn numbers_are_read_as_python_wrote_them() {
    // pickle.dumps([255, -1, 65535, 2**40, -2**40, 2**80, True, 0.5], 2)
    let bytes = b"\x80\x02]q\x00(K\xffJ\xff\xff\xff\xffM\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01\
                  \x8a\x06\x00\x00\x00\x00\x00\xff\
                  \x8a\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\
                  \x88G?\xe0\x00\x00\x00\x00\x00\x00e.";
    let read = parse(bytes).unwrap();
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
        proptest::sample::select(&b"(}])tae su.RbQN\x85\x86\x87"[..]).prop_map(|b| vec![b]),
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
