//! A reader of TensorBoard's event files that shares nothing with their writer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::place::names;

/// The values of each tag by step.
pub type Scalars = BTreeMap<String, BTreeMap<u64, f32>>;

/// CRC-32C bit by bit, masked as in TFRecords.
fn masked(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The data of each record. A file that a killed process left may end within one.
fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while bytes.len() >= 12 {
        let length = number(&bytes[..8]) as usize;
        assert_eq!(number(&bytes[8..12]), u64::from(masked(&bytes[..8])), "the checksum of a length");
        let Some(data) = bytes[12..].get(..length + 4) else { break };
        let (data, checksum) = data.split_at(length);
        assert_eq!(number(checksum), u64::from(masked(data)), "the checksum of a record");
        records.push(data);
        bytes = &bytes[12 + length + 4..];
    }
    records
}

/// A field of a message in protocol buffers' encoding.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let length = bytes.iter().position(|byte| *byte < 0x80).unwrap() + 1;
    let (number, rest) = bytes.split_at(length);
    *bytes = rest;
    number.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f))
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let mut take = |length: usize| {
            let (taken, rest) = bytes.split_at(length);
            bytes = rest;
            taken
        };
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(number(take(8))),
            5 => Field::Number(number(take(4))),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (taken, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(taken)
            }
            other => panic!("no such type of field: {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

/// What TensorBoard shows of a folder: files in the order of their names, a session's start voiding what earlier ones have
/// at its step and beyond.
pub fn scalars(run: &Path) -> Scalars {
    let mut scalars = Scalars::new();
    for name in names(run).into_iter().filter(|name| name.contains("tfevents")) {
        let bytes = fs::read(run.join(&name)).unwrap();
        for (place, record) in records(&bytes).into_iter().enumerate() {
            let (mut step, mut version, mut values, mut starts) = (0, None, Vec::new(), false);
            for (field, value) in fields(record) {
                match (field, value) {
                    (1, Field::Number(time)) => assert!(f64::from_bits(time) > 1.7e9, "{name}"),
                    (2, Field::Number(number)) => step = number,
                    (3, Field::Bytes(text)) => version = Some(text),
                    (5, Field::Bytes(summary)) => values = fields(summary),
                    (7, Field::Bytes(log)) => starts = matches!(fields(log)[..], [(1, Field::Number(1))]),
                    (field, _) => panic!("{name}: no such field of an event: {field}"),
                }
            }
            assert_eq!(version, (place == 0).then_some(&b"brain.Event:2"[..]), "{name}");
            if starts {
                scalars.values_mut().for_each(|steps| steps.retain(|earlier, _| *earlier < step));
            }
            for (_, value) in values {
                let Field::Bytes(value) = value else { panic!("{name}: a value that is no message") };
                let [(1, Field::Bytes(tag)), (2, Field::Number(bits))] = fields(value)[..] else {
                    panic!("{name}: a value is a tag and a number")
                };
                let tag = String::from_utf8(tag.to_vec()).unwrap();
                let earlier = scalars.entry(tag).or_default().insert(step, f32::from_bits(bits as u32));
                assert!(earlier.is_none(), "{name}: two values at step {step}");
            }
        }
    }
    scalars
}

/// The scalars that do not depend on the clock.
pub fn timeless(run: &Path) -> Scalars {
    let mut scalars = scalars(run);
    assert!(scalars.remove("images_per_second").is_some());
    scalars
}
