//! A reader of protobuf's wire format, written from its specification: fields by number, without any schema.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

/// A field's content.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// A message: its fields in the order of the file.
pub struct Message(Vec<(u64, Field)>);

impl Message {
    pub fn of(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let content = match key & 7 {
                0 => Field::Number(varint(&mut bytes)),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    let (content, rest) = bytes.split_at(length);
                    bytes = rest;
                    Field::Bytes(content.to_vec())
                }
                kind => panic!("wire type {kind} is not written"),
            };
            fields.push((key >> 3, content));
        }
        Message(fields)
    }

    fn all(&self, number: u64) -> impl Iterator<Item = &Field> {
        self.0.iter().filter(move |(found, _)| *found == number).map(|(_, field)| field)
    }

    pub fn numbers(&self, number: u64) -> Vec<i64> {
        let value = |field: &Field| match field {
            Field::Number(value) => *value as i64,
            Field::Bytes(_) => panic!("bytes instead of a number"),
        };
        self.all(number).map(value).collect()
    }

    pub fn bytes(&self, number: u64) -> Vec<&[u8]> {
        let mut all = Vec::new();
        for field in self.all(number) {
            let Field::Bytes(bytes) = field else { panic!("a number instead of bytes") };
            all.push(&bytes[..]);
        }
        all
    }

    pub fn texts(&self, number: u64) -> Vec<&str> {
        self.bytes(number).into_iter().map(|bytes| std::str::from_utf8(bytes).unwrap()).collect()
    }

    /// The only text.
    pub fn text(&self, number: u64) -> &str {
        let texts = self.texts(number);
        assert_eq!(texts.len(), 1, "field {number}: {texts:?}");
        texts[0]
    }

    pub fn messages(&self, number: u64) -> Vec<Message> {
        self.bytes(number).into_iter().map(Message::of).collect()
    }

    /// The only message.
    pub fn message(&self, number: u64) -> Message {
        let mut messages = self.messages(number);
        assert_eq!(messages.len(), 1, "field {number}");
        messages.remove(0)
    }
}

/// Seven bits a byte, the lowest first; the highest bit says that another byte follows.
fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&first, rest) = bytes.split_first().expect("a message ends within a number");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first < 0x80 {
            return value;
        }
    }
    panic!("a number of more than ten bytes");
}
