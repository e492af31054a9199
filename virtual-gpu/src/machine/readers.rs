//! Who has read a word since it was written, where several agents have at different times.

use std::collections::HashMap;

use super::agent::Agent;

/// Lists of columns, each with the generation of its last read. Cells of shared memory hold the index of theirs; equal lists have
/// one index, because whole tiles are read alike.
#[derive(Default)]
pub(super) struct Readers {
    lists: Vec<Vec<(u8, u32)>>,
    known: HashMap<Vec<(u8, u32)>, u64>,
    /// The last read: its list before and after. The words of a tile are read alike.
    last: Option<((u64, Agent, u32), u64)>,
}

impl Readers {
    pub fn clear(&mut self) {
        self.lists.clear();
        self.known.clear();
        self.last = None;
    }

    /// The list of the columns of `mask`, which have all read at one time.
    pub fn list(&mut self, mask: u64, generation: u32) -> u64 {
        let columns = (0..64).filter(|column| mask >> column & 1 == 1);
        self.index(columns.map(|column| (column, generation)).collect())
    }

    /// The list with one read more.
    pub fn with(&mut self, list: u64, reader: Agent, generation: u32) -> u64 {
        let read = (list, reader, generation);
        if let Some((last, after)) = self.last
            && last == read
        {
            return after;
        }
        let mut list = self.lists[list as usize].clone();
        let column = reader.column() as u8;
        match list.binary_search_by_key(&column, |(column, _)| *column) {
            Ok(at) => list[at].1 = generation,
            Err(at) => list.insert(at, (column, generation)),
        }
        let after = self.index(list);
        self.last = Some((read, after));
        after
    }

    fn index(&mut self, list: Vec<(u8, u32)>) -> u64 {
        if let Some(index) = self.known.get(&list) {
            return *index;
        }
        self.lists.push(list.clone());
        let index = self.lists.len() as u64 - 1;
        self.known.insert(list, index);
        index
    }

    /// The columns, each with its generation.
    pub fn of(&self, list: u64) -> impl Iterator<Item = (usize, u32)> {
        self.lists[list as usize].iter().map(|(column, generation)| (usize::from(*column), *generation))
    }
}
