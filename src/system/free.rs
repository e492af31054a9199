//! The memory that the system would still grant to this process, on Linux.

use std::fs;
use std::path::Path;

/// Bytes that the process could still take: the least of what the machine has available, what is left of the limit on the
/// process's address space (`ulimit -v`), and what is left of the limits of its control groups (containers). `None` where
/// the system tells none of these.
pub(crate) fn bytes() -> Option<usize> {
    let read = |path| fs::read_to_string(path).ok();
    let available = read("/proc/meminfo").and_then(|text| kibibytes(&text, "MemAvailable:"));
    let address_space = read("/proc/self/limits").zip(read("/proc/self/status"));
    let address_space = address_space.and_then(|(limits, status)| left_of_address_space(&limits, &status));
    let groups = read("/proc/self/cgroup").and_then(|text| left_of_groups(&text, Path::new("/sys/fs/cgroup")));
    [available, address_space, groups].into_iter().flatten().min()
}

/// The value of a line such as `MemAvailable:   16303892 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<usize> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}

/// By `/proc/self/limits` and `/proc/self/status`; `None` without a limit.
fn left_of_address_space(limits: &str, status: &str) -> Option<usize> {
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: usize = limit.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(kibibytes(status, "VmSize:")?))
}

/// By `/proc/self/cgroup`, for version 2 of control groups, mounted at `mount`: the least of the process's group and the
/// groups around it. `None` without a limit. The cache of files counts as used, except for what the kernel would drop first.
fn left_of_groups(text: &str, mount: &Path) -> Option<usize> {
    let group = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let left = |folder: &Path| {
        let read = |name| fs::read_to_string(folder.join(name)).ok();
        let number = |name| read(name)?.trim().parse::<usize>().ok();
        let limit = number("memory.max")?;
        let cache = read("memory.stat")
            .and_then(|text| text.lines().find_map(|line| line.strip_prefix("inactive_file "))?.parse::<usize>().ok());
        Some(limit.saturating_sub(number("memory.current")?.saturating_sub(cache.unwrap_or(0))))
    };
    let own = mount.join(group);
    own.ancestors().take_while(|folder| folder.starts_with(mount)).filter_map(left).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_address_space_counts_what_is_mapped() {
        let limits = |soft: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max address space         {soft:<20} unlimited            bytes     \n"
            )
        };
        let status = "VmPeak:\t    9000 kB\nVmSize:\t    3000 kB\n";
        assert_eq!(left_of_address_space(&limits("4096000"), status), Some(4_096_000 - 3000 * 1024));
        assert_eq!(left_of_address_space(&limits("1000"), status), Some(0));
        assert_eq!(left_of_address_space(&limits("unlimited"), status), None);
    }

    #[test]
    fn the_tightest_group_counts() {
        let mount = tempfile::tempdir().unwrap();
        let group = |name: &str, max: &str, current: &str, stat: &str| {
            let folder = mount.path().join(name);
            fs::create_dir_all(&folder).unwrap();
            for (file, text) in [("memory.max", max), ("memory.current", current), ("memory.stat", stat)] {
                fs::write(folder.join(file), text).unwrap();
            }
        };
        group("a", "1000\n", "700\n", "anon 1\ninactive_file 100\n");
        group("a/b", "max\n", "600\n", "");
        let left = |text: &str| left_of_groups(text, mount.path());
        assert_eq!(left("0::/a/b\n"), Some(400));
        group("a/b", "650\n", "600\n", "inactive_file 0\n");
        assert_eq!(left("1:name=systemd:/\n0::/a/b\n"), Some(50));
        assert_eq!((left("0::/\n"), left("3:memory:/a\n")), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells() {
        assert!(bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
