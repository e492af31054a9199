//! What rank 0 makes of the parts that are to be alike on all ranks.

use crate::error::RanksError;

type Entries = Vec<(String, String)>;

/// Entries as a part of a call.
pub(super) fn written(entries: &[(String, String)]) -> Vec<u8> {
    serde_json::to_vec(entries).unwrap_or_default()
}

/// Whether all ranks have the same entries, in any order.
pub(super) fn judge(what: &str, parts: &[Vec<u8>]) -> Result<(), RanksError> {
    let mut all: Vec<Entries> = Vec::new();
    for (rank, part) in parts.iter().enumerate() {
        let entries = serde_json::from_slice(part);
        let problem = || "entries that cannot be read".into();
        all.push(entries.map_err(|_| RanksError::Protocol { rank, problem: problem() })?);
    }
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in all.iter().flatten() {
        if !names.contains(&&name[..]) {
            names.push(name);
        }
    }
    for entry in names {
        let mut values: Vec<(Option<String>, Vec<usize>)> = Vec::new();
        for (rank, entries) in all.iter().enumerate() {
            let value = entries.iter().find(|(name, _)| name == entry).map(|(_, value)| value.clone());
            match values.iter_mut().find(|(known, _)| *known == value) {
                Some((_, ranks)) => ranks.push(rank),
                None => values.push((value, vec![rank])),
            }
        }
        if values.len() > 1 {
            return Err(RanksError::Disagreement { what: what.into(), entry: entry.into(), values });
        }
    }
    Ok(())
}

/// Whether all ranks have as much data, and room for all of it.
pub(super) fn lengths(parts: &[Vec<u8>]) -> Result<(), RanksError> {
    let mut first = None;
    for (rank, part) in parts.iter().enumerate() {
        let (own, all) = match part.as_chunks().0 {
            [own, all] => (u64::from_le_bytes(*own), u64::from_le_bytes(*all)),
            _ => return Err(RanksError::Protocol { rank, problem: "lengths that cannot be read".into() }),
        };
        let mismatch = |problem| Err(RanksError::Mismatch { problem });
        if own.checked_mul(parts.len() as u64) != Some(all) {
            let ranks = parts.len();
            return mismatch(format!(
                "in all_gather rank {rank} has room for {all} bytes, not for {ranks} times its {own}"
            ));
        }
        match first {
            None => first = Some(own),
            Some(first) if first == own => {}
            Some(first) => return mismatch(format!("in all_gather rank {rank} has {own} bytes, rank 0 has {first}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(entries: &[(&str, &str)]) -> Vec<u8> {
        let own = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
        written(&entries.iter().map(own).collect::<Vec<_>>())
    }

    #[test]
    fn entries_are_alike_in_any_order() {
        let parts = [part(&[("a", "1"), ("b", "2")]), part(&[("b", "2"), ("a", "1")])];
        assert_eq!(judge("settings", &parts), Ok(()));
    }

    #[test]
    fn the_first_entry_that_differs_is_named_with_its_values_and_ranks() {
        let parts = [part(&[("a", "1"), ("b", "2")]), part(&[("a", "1"), ("b", "3")]), part(&[("a", "1")])];
        let text = judge("settings", &parts).unwrap_err().to_string();
        assert_eq!(text, "the ranks differ in settings: b is 2 on rank 0, 3 on rank 1, absent on rank 2");
    }

    #[test]
    fn lengths_that_do_not_fit_are_named() {
        let part = |own: u64, all: u64| [own.to_le_bytes(), all.to_le_bytes()].concat();
        assert_eq!(lengths(&[part(3, 6), part(3, 6)]), Ok(()));
        for parts in [[part(3, 6), part(4, 8)], [part(3, 6), part(3, 5)], [part(u64::MAX, 1), part(3, 6)]] {
            assert!(matches!(lengths(&parts), Err(RanksError::Mismatch { .. })), "{parts:?}");
        }
        assert!(matches!(lengths(&[part(3, 6), vec![1]]), Err(RanksError::Protocol { rank: 1, .. })));
    }
}
