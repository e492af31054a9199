//! Who has read a word since it was written, where several agents have at different times.

use super::clock::Agent;

/// Lists of columns, each with the generation of its last read. A cell of shared memory holds the index of its list.
#[derive(Default)]
pub(super) struct Readers {
    lists: Vec<Vec<(u8, u32)>>,
    free: Vec<usize>,
}

impl Readers {
    pub fn clear(&mut self) {
        self.lists.clear();
        self.free.clear();
    }

    /// A list of the columns of `mask`, which have all read at one time.
    pub fn list(&mut self, mask: u64, generation: u32) -> u64 {
        let columns = (0..64).filter(|column| mask >> column & 1 == 1);
        let made = columns.map(|column| (column, generation)).collect();
        self.keep(made)
    }

    pub fn copy(&mut self, list: u64) -> u64 {
        let copy = self.lists[list as usize].clone();
        self.keep(copy)
    }

    fn keep(&mut self, list: Vec<(u8, u32)>) -> u64 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.lists.push(Vec::new());
            self.lists.len() - 1
        });
        self.lists[at] = list;
        at as u64
    }

    pub fn drop(&mut self, list: u64) {
        self.lists[list as usize].clear();
        self.free.push(list as usize);
    }

    pub fn note(&mut self, list: u64, reader: Agent, generation: u32) {
        let list = &mut self.lists[list as usize];
        let column = reader.column() as u8;
        match list.iter_mut().find(|(known, _)| *known == column) {
            Some(known) => known.1 = generation,
            None => list.push((column, generation)),
        }
    }

    /// The columns, each with its generation.
    pub fn of(&self, list: u64) -> impl Iterator<Item = (usize, u32)> {
        self.lists[list as usize].iter().map(|(column, generation)| (usize::from(*column), *generation))
    }
}
