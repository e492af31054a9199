//! Slurm's notations: lists of hosts, and of tasks a host.

/// The first host of a list: `gpu[007-010,12],login1` begins with `gpu007`. `None` if it is no list.
pub(super) fn first_host(list: &str) -> Option<String> {
    let mut host = String::new();
    let mut rest = list.trim();
    // The first entry ends at a comma outside brackets; each of its brackets gives the first of its numbers.
    while let Some(c) = rest.chars().next() {
        match c {
            ',' => break,
            '[' => {
                let (ranges, after) = rest[1..].split_once(']')?;
                let first = ranges.split([',', '-']).next()?;
                if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                host.push_str(first);
                rest = after;
            }
            ']' => return None,
            c if c.is_whitespace() => return None,
            c => {
                host.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    (!host.is_empty()).then_some(host)
}

/// The tasks of each host of a list, as runs of (tasks, hosts): `4(x2),3` is 4 tasks on each of 2 hosts, and 3 on the next.
/// `None` if it is no list.
pub(super) fn tasks(list: &str) -> Option<Vec<(usize, usize)>> {
    let run = |run: &str| {
        let (tasks, hosts) = match run.split_once("(x") {
            Some((tasks, hosts)) => (tasks, hosts.strip_suffix(')')?.parse().ok()?),
            None => (run, 1),
        };
        let tasks = tasks.parse().ok()?;
        (tasks > 0 && hosts > 0).then_some((tasks, hosts))
    };
    list.trim().split(',').map(run).collect()
}

/// The tasks of the host with this number, from 0.
pub(super) fn tasks_of(list: &str, mut node: usize) -> Option<usize> {
    for (tasks, hosts) in tasks(list)? {
        if node < hosts {
            return Some(tasks);
        }
        node -= hosts;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_host_of_a_list() {
        for (list, host) in [
            ("gpu[007-010,12],login1", "gpu007"),
            ("sh04-10n05", "sh04-10n05"),
            ("login1,gpu[1-2]", "login1"),
            ("rack[0-3]-node[01-16]", "rack0-node01"),
            ("n[3]", "n3"),
            ("a[001,3-5]-ib", "a001-ib"),
        ] {
            assert_eq!(first_host(list).as_deref(), Some(host), "{list}");
        }
        for list in ["", ",", "gpu[", "gpu[]", "gpu[-3]", "gpu]1", "gpu[x]", "a b"] {
            assert_eq!(first_host(list), None, "{list}");
        }
    }

    #[test]
    fn the_tasks_of_a_host() {
        assert_eq!(tasks("4(x2),3"), Some(vec![(4, 2), (3, 1)]));
        assert_eq!((0..4).map(|node| tasks_of("4(x2),3", node)).collect::<Vec<_>>(), [Some(4), Some(4), Some(3), None]);
        assert_eq!(tasks_of("8", 0), Some(8));
        for list in ["", "x", "4(x", "4(2)", "0", "4(x0)", "4,,3", "-1", "99999999999999999999"] {
            assert_eq!(tasks(list), None, "{list}");
        }
        // As many hosts as the number holds take no memory.
        assert_eq!(tasks_of("1(x18446744073709551615)", 5), Some(1));
    }
}
