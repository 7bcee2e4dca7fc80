//! RFC 7541 Appendix C, and vectors of independent encoders (`tests/vectors/hpack`).

use super::*;
use std::rc::Rc;

/// A name that is kept as it is, with all values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Whole(Rc<[u8]>);

impl FieldName for Whole {
    fn of(name: &[u8]) -> Whole {
        Whole(name.into())
    }

    fn is_needed(&self) -> bool {
        true
    }
}

/// A name and its value; `None` where the name is not known.
type Fields = Vec<Option<(String, String)>>;

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn decode(decoder: &mut Decoder<Whole>, block: &[u8]) -> Result<Fields, Malformed> {
    let mut fields = Vec::new();
    decoder.decode(block, &mut Vec::new(), |field| {
        fields.push(match field {
            Field::Known(name, value) => Some((latin(&name.0), latin(value))),
            Field::Old(_) | Field::Unnamed(..) | Field::Beyond => None,
        });
    })?;
    Ok(fields)
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(pair).collect()
}

fn known(fields: &[(&str, &str)]) -> Fields {
    let owned = |&(name, value): &(&str, &str)| Some((name.to_owned(), value.to_owned()));
    fields.iter().map(owned).collect()
}

#[test]
fn integers_of_c_1() {
    for (hex, prefix, value) in [("0a", 5, 10), ("1f9a0a", 5, 1337), ("2a", 8, 42)] {
        assert_eq!(integer(&mut &bytes(hex)[..], prefix), Ok(value));
    }
    assert_eq!(
        integer(&mut &bytes("1fe0ffffff0f")[..], 5),
        Ok(u32::MAX),
        "the largest"
    );
    assert_eq!(integer(&mut &bytes("1fffffffff1f")[..], 5), Err(Malformed));
    assert_eq!(integer(&mut &bytes("1f808080808000")[..], 5), Err(Malformed));
    assert_eq!(integer(&mut &bytes("1f80")[..], 5), Err(Malformed));
}

#[test]
fn representations_of_c_2() {
    for (hex, field) in [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            ("custom-key", "custom-header"),
        ),
        ("040c 2f73 616d 706c 652f 7061 7468", (":path", "/sample/path")),
        (
            "1008 7061 7373 776f 7264 0673 6563 7265 74",
            ("password", "secret"),
        ),
        ("82", (":method", "GET")),
    ] {
        assert_eq!(
            decode(&mut Decoder::fresh(), &bytes(hex)).unwrap(),
            known(&[field])
        );
    }
}

const REQUESTS: [&[(&str, &str)]; 3] = [
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

const RESPONSES: [&[(&str, &str)]; 3] = [
    &[
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "307"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        (
            "set-cookie",
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ),
    ],
];

#[test]
fn requests_of_c_3_and_c_4() {
    for blocks in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        let mut decoder = Decoder::fresh();
        for (block, fields) in blocks.iter().zip(REQUESTS) {
            assert_eq!(decode(&mut decoder, &bytes(block)).unwrap(), known(fields));
        }
    }
}

/// With a table of 256 bytes, so that entries are evicted.
#[test]
fn responses_of_c_5_and_c_6() {
    for blocks in [
        [
            "3fe1 01 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 \
             2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 \
             677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b \
             206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
        ],
        [
            "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
             2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 \
             821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 \
             b106 3d50 07",
        ],
    ] {
        let mut decoder = Decoder::fresh();
        for (block, fields) in blocks.iter().zip(RESPONSES) {
            assert_eq!(decode(&mut decoder, &bytes(block)).unwrap(), known(fields));
        }
        // What is left at the end of C.5 and C.6 are three entries.
        assert!(decode(&mut decoder, &bytes("c0")).is_ok());
        assert_eq!(
            decode(&mut decoder, &bytes("c1")),
            Err(Malformed),
            "it was evicted"
        );
    }
}

#[test]
fn what_is_malformed() {
    for hex in [
        "80",         // index 0
        "be",         // beyond the table
        "7f",         // cut off
        "4003 6162",  // a name cut off
        "82 20",      // a size update behind a field
        "0081 ff 00", // no Huffman code
    ] {
        assert_eq!(
            decode(&mut Decoder::fresh(), &bytes(hex)),
            Err(Malformed),
            "{hex}"
        );
    }
}

#[test]
fn an_unknown_table_is_learned() {
    let mut decoder = Decoder::unknown();
    assert_eq!(
        decode(&mut decoder, &bytes("be82")).unwrap(),
        [None, known(&[(":method", "GET")])[0].clone()]
    );
    // An entry whose name is unknown: `62: v`, then one with a name of the static table.
    assert_eq!(decode(&mut decoder, &bytes("7e 01 76")).unwrap(), [None]);
    assert_eq!(
        decode(&mut decoder, &bytes("41 01 61")).unwrap(),
        known(&[(":authority", "a")])
    );
    let fields = decode(&mut decoder, &bytes("be bf c0")).unwrap();
    assert_eq!(fields, [known(&[(":authority", "a")])[0].clone(), None, None]);
    // Emptied, all is known.
    assert_eq!(decode(&mut decoder, &bytes("20 3fe11f be")), Err(Malformed));
    let mut decoder = Decoder::unknown();
    decode(&mut decoder, &bytes("20 3fe11f 41 01 61")).unwrap();
    assert_eq!(decode(&mut decoder, &bytes("bf")), Err(Malformed));
}

/// A table that stays within `KEPT` though its real size is larger, and unknown beyond.
#[test]
fn a_table_larger_than_is_kept() {
    let mut decoder = Decoder::fresh();
    // 2^20.
    decode(&mut decoder, &bytes("3fe1ff3f")).unwrap();
    let mut block = bytes("40 01 61 7f e906");
    block.resize(block.len() + 1000, b'v');
    for _ in 0..100 {
        decode(&mut decoder, &block).unwrap();
    }
    assert!(matches!(
        decode(&mut decoder, &bytes("be")).unwrap()[..],
        [Some(_)]
    ));
    // Index 62 + 99.
    assert_eq!(decode(&mut decoder, &bytes("ff22")).unwrap(), [None]);
}

#[test]
fn what_is_not_needed_is_not_kept() {
    #[derive(Debug, Clone, PartialEq)]
    struct Nothing;
    impl FieldName for Nothing {
        fn of(_: &[u8]) -> Nothing {
            Nothing
        }
        fn is_needed(&self) -> bool {
            false
        }
    }
    let mut decoder = Decoder::<Nothing>::fresh();
    let mut n = 0;
    for _ in 0..2 {
        decoder
            .decode(&bytes("400161017641017a"), &mut Vec::new(), |field| {
                assert_eq!(field, Field::Known(Nothing, &[]));
                n += 1;
            })
            .unwrap();
    }
    assert_eq!(n, 4);
    assert_eq!(
        largest_size_update(&bytes("3fe11f 20 82")),
        Some(4096),
        "the first of two"
    );
}

struct Vectors {
    headers: Vec<Fields>,
    /// Blocks of a connection each.
    connections: Vec<Vec<Vec<u8>>>,
}

fn vectors() -> Vec<Vectors> {
    let files = [
        include_str!("../../../../../tests/vectors/hpack/python-hpack.json"),
        include_str!("../../../../../tests/vectors/hpack/nghttp2.json"),
    ];
    files.map(read).into()
}

fn read(file: &str) -> Vectors {
    let file: serde_json::Value = serde_json::from_str(file).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let list = |value: &serde_json::Value| value.as_array().unwrap().clone();
    Vectors {
        headers: list(&file["headers"])
            .iter()
            .map(|fields| {
                list(fields)
                    .iter()
                    .map(|field| Some((text(&field[0]), text(&field[1]))))
                    .collect()
            })
            .collect(),
        connections: list(&file["connections"])
            .iter()
            .map(|connection| {
                list(&connection["wires"])
                    .iter()
                    .map(|wire| bytes(&text(wire)))
                    .collect()
            })
            .collect(),
    }
}

#[test]
fn blocks_of_other_encoders() {
    for vectors in vectors() {
        for connection in &vectors.connections {
            assert_eq!(connection.len(), vectors.headers.len());
            let mut decoder = Decoder::fresh();
            for (block, fields) in connection.iter().zip(&vectors.headers) {
                assert_eq!(&decode(&mut decoder, block).unwrap(), fields);
            }
        }
    }
}

/// Which fields of `block` cannot be known, told from the representations alone: those that refer to insertions from
/// before, where `known` has an item per insertion since, oldest first: whether its name is known.
fn unknown_fields(mut block: &[u8], known: &mut Vec<bool>) -> Vec<bool> {
    let mut fields = Vec::new();
    while let Some(&first) = block.first() {
        let is_known = |known: &Vec<bool>, index: u32| match (index as usize).checked_sub(61) {
            None | Some(0) => true,
            Some(nth) => nth <= known.len() && known[known.len() - nth],
        };
        if first & 0x80 != 0 {
            fields.push(!is_known(known, integer(&mut block, 7).unwrap()));
        } else if first & 0xe0 == 0x20 {
            integer(&mut block, 5).unwrap();
        } else {
            let inserts = first & 0x40 != 0;
            let index = integer(&mut block, if inserts { 6 } else { 4 }).unwrap();
            if index == 0 {
                string(&mut block).unwrap();
            }
            string(&mut block).unwrap();
            let name = is_known(known, index);
            fields.push(!name);
            if inserts {
                known.push(name);
            }
        }
    }
    fields
}

/// The head of the connection cut off: what refers to it is unknown, and all else is exact.
#[test]
fn blocks_of_other_encoders_joined_in_the_middle() {
    let mut unknown = 0;
    for vectors in vectors() {
        for connection in &vectors.connections {
            for cut in 1..connection.len() {
                let mut decoder = Decoder::unknown();
                let mut known = Vec::new();
                for (block, fields) in connection.iter().zip(&vectors.headers).skip(cut) {
                    let unknown_fields = unknown_fields(block, &mut known);
                    let expected: Fields = fields
                        .iter()
                        .zip(&unknown_fields)
                        .map(|(field, &unknown)| field.clone().filter(|_| !unknown))
                        .collect();
                    assert_eq!(decode(&mut decoder, block).unwrap(), expected);
                    unknown += expected.iter().filter(|field| field.is_none()).count();
                }
            }
        }
    }
    assert!(unknown > 0, "the test would show nothing");
}

/// A hole in the middle of a connection.
#[test]
fn blocks_of_other_encoders_with_a_hole() {
    for vectors in vectors() {
        for connection in &vectors.connections {
            let mut decoder = Decoder::fresh();
            for (n, (block, fields)) in connection.iter().zip(&vectors.headers).enumerate() {
                match n {
                    8..12 => decoder = Decoder::unknown(),
                    _ => {
                        for (decoded, field) in decode(&mut decoder, block).unwrap().iter().zip(fields) {
                            assert!(decoded == field || n >= 12 && decoded.is_none());
                        }
                    }
                }
            }
        }
    }
}
