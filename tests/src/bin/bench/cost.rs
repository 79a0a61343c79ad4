//! What a process costs, as the kernel counts it.

/// Processor time of a process in milliseconds, and of the children it has waited for.
pub(crate) fn cpu_ms(pid: &str) -> (u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the program's name in parentheses; the rest is numbers.
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let sum = |a: usize, b: usize| fields.get(a).unwrap_or(&0) + fields.get(b).unwrap_or(&0);
    // A clock tick is 10 ms on Linux whatever the kernel's own HZ is (USER_HZ).
    (sum(11, 12) * 10, sum(13, 14) * 10)
}

/// A field of /proc/<pid>/status in KiB.
pub(crate) fn status_kib(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}
