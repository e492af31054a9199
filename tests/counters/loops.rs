//! The accesses to global memory in a kernel's main loop, from its PTX.

/// The bytes of each access to global memory in the main loop of `kernel`, in the order of the text. The main loop is
/// the loop that both fetches and multiplies. `None` if the kernel or the loop does not exist.
pub fn access_widths(ptx: &str, kernel: &str) -> Option<Vec<usize>> {
    let body = body(ptx, kernel)?;
    let fetches = |line: &&&str| access(line).is_some();
    let multiplies = |line: &&&str| line.starts_with("mma.sync") || line.starts_with("fma.rn.f32");
    // A loop reaches from a label to a branch back to it.
    let loops = body.iter().enumerate().filter_map(|(end, line)| {
        let target = line.rsplit_once("bra")?.1.trim_start_matches(".uni").trim().trim_end_matches(';');
        let begin = body[..end].iter().position(|line| line.strip_suffix(':') == Some(target))?;
        Some(&body[begin..end])
    });
    let main =
        loops.filter(|lines| lines.iter().any(|line| fetches(&line)) && lines.iter().any(|line| multiplies(&line)));
    // Of nested loops, the outer one contains all accesses.
    let main = main.max_by_key(|lines| lines.len())?;
    Some(main.iter().filter_map(|line| access(line)).collect())
}

/// A kernel's instructions and labels.
fn body<'a>(ptx: &'a str, kernel: &str) -> Option<Vec<&'a str>> {
    let start = ptx.find(&format!(".entry {kernel}("))?;
    let end = start + ptx[start..].find("\n}\n")?;
    Some(ptx[start..end].lines().map(str::trim).collect())
}

/// The bytes of a load from global memory; `None` for other instructions.
fn access(line: &str) -> Option<usize> {
    // Skips the guard.
    let line = if line.starts_with('@') { line.split_once(' ')?.1.trim_start() } else { line };
    if line.starts_with("cp.async.c") {
        return line.split(',').nth(2)?.trim().parse().ok();
    }
    let rest = line.strip_prefix("ld.global")?;
    let kind = rest.split_whitespace().next()?;
    let of = |part: &str| kind.split('.').any(|word| word == part);
    let vector = if of("v4") {
        4
    } else if of("v2") {
        2
    } else {
        1
    };
    let bits: usize = kind.rsplit('.').next()?.trim_start_matches(char::is_alphabetic).parse().ok()?;
    Some(vector * bits / 8)
}

#[test]
fn accesses_are_told_by_width() {
    for (line, bytes) in [
        ("cp.async.cg.shared.global [%r1], [%rd2], 16, %r3;", Some(16)),
        ("@%p1 ld.global.nc.u16 %rs1, [%rd1];", Some(2)),
        ("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1];", Some(16)),
        ("ld.global.f32 %f1, [%rd1];", Some(4)),
        ("ld.shared.f32 %f1, [%r1];", None),
        ("cp.async.commit_group;", None),
    ] {
        assert_eq!(access(line), bytes, "{line}");
    }
}
