//! Every shape, type, layout and sign of a warpgroup's product, with whole numbers, whose sums are exact.

use super::*;
use common::header;

/// The layout of an operand in shared memory: the major dimension and the bytes of the swizzle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    k_major: bool,
    swizzle: usize,
    leading: usize,
    stride: usize,
    /// From a multiple of 1024 to the operand's start, in bytes: a later step of k within the swizzle's width.
    start: usize,
}

impl Layout {
    /// The byte of value `k` of row `row`, by the manual's canonical layouts.
    fn place(self, size: usize, row: usize, k: usize) -> usize {
        let Layout { k_major, swizzle, leading, stride, start } = self;
        // The values of 16 bytes.
        let each = 16 / size;
        let at = match (k_major, swizzle) {
            (true, 0) => row % 8 * 16 + row / 8 * stride + k / each * leading + k % each * size,
            (true, _) => row % 8 * swizzle + row / 8 * stride + k * size,
            (false, 0) => row % each * size + row / each * stride + k % 8 * 16 + k / 8 * leading,
            (false, _) => {
                let wide = swizzle / size;
                row % wide * size + row / wide * leading + k % 8 * swizzle + k / 8 * stride
            }
        };
        let at = start + at;
        at ^ (at >> 7 & (swizzle / 16).saturating_sub(1)) << 4
    }

    /// The descriptor of an operand `at` bytes behind the start of the tile.
    fn descriptor(self, at: usize) -> u64 {
        let mode = match self.swizzle {
            0 => 0,
            128 => 1,
            64 => 2,
            _ => 3u64,
        };
        ((at + self.start) >> 4) as u64
            | (self.leading as u64 >> 4) << 16
            | (self.stride as u64 >> 4) << 32
            | mode << 62
    }
}

/// The layouts of an operand of `rows` rows: of each major dimension and swizzle several.
fn layouts(k_major: bool, rows: usize) -> Vec<Layout> {
    let layout = |swizzle, leading, stride, start| Layout { k_major, swizzle, leading, stride, start };
    let mut all = Vec::new();
    for swizzle in [0, 32, 64, 128] {
        match (k_major, swizzle) {
            (true, 0) | (false, 0) => {
                all.push(layout(0, 128, 256, 0));
                all.push(layout(0, rows.div_ceil(8) * 128, 128, 0));
                all.push(layout(0, 144, 320, 16));
            }
            (true, _) => {
                all.extend((0..swizzle / 32).map(|step| layout(swizzle, 16, 8 * swizzle, 32 * step)));
                // Every other group of eight rows, where there is room.
                if 2 * rows * swizzle <= SECOND {
                    all.push(layout(swizzle, 16, 16 * swizzle, 0));
                }
            }
            (false, _) => {
                all.push(layout(swizzle, 16 * swizzle, 8 * swizzle, 0));
                let across = rows.div_ceil(swizzle / 2) * 8 * swizzle;
                all.push(layout(swizzle, 8 * swizzle, across, 0));
            }
        }
    }
    all
}

/// One kernel: the sums' type, the operands' type, n, the operands' major dimensions and signs, and where A is.
#[derive(Clone, Copy, Debug)]
struct Shape {
    sums: &'static str,
    element: &'static str,
    n: usize,
    registers: bool,
    k_major: [bool; 2],
    signs: [i32; 2],
    /// The operand that says whether the sums are added to: a predicate, or a number.
    adds: &'static str,
}

impl Shape {
    fn size(self) -> usize {
        if self.element == "tf32" { 4 } else { 2 }
    }

    fn k(self) -> usize {
        32 / self.size()
    }

    /// The registers of a thread's sums.
    fn count(self) -> usize {
        if self.sums == "f16" { self.n / 4 } else { self.n / 2 }
    }

    fn name(self) -> String {
        let Shape { sums, element, n, registers, k_major, signs, adds } = self;
        let bits: String = [registers, k_major[0], k_major[1], signs[0] < 0, signs[1] < 0]
            .iter()
            .map(|bit| if *bit { '1' } else { '0' })
            .collect();
        format!("{sums}_{element}_{n}_{bits}{}", adds.trim_start_matches("%"))
    }

    fn instruction(self) -> String {
        let Shape { sums, element, n, registers, k_major, signs, adds } = self;
        let list: Vec<String> = (0..self.count()).map(|i| format!("%d{i}")).collect();
        let a = if registers { "{%a0, %a1, %a2, %a3}" } else { "%rd4" };
        let majors = match (element, registers) {
            ("tf32", _) => String::new(),
            (_, true) => format!(", {}", u8::from(!k_major[1])),
            _ => format!(", {}, {}", u8::from(!k_major[0]), u8::from(!k_major[1])),
        };
        format!(
            "wgmma.mma_async.sync.aligned.m64n{n}k{}.{sums}.{element}.{element} {{{}}}, {a}, %rd5, {adds}, {}, {}{majors};",
            self.k(),
            list.join(", "),
            signs[0],
            signs[1]
        )
    }

    /// A kernel that copies an image to shared memory, multiplies once, and writes the sums out.
    fn kernel(self) -> String {
        let count = self.count();
        let sums = if self.sums == "f16" { "b32" } else { "f32" };
        let each = |text: &dyn Fn(usize) -> String, count: usize| -> String { (0..count).map(text).collect() };
        let in_registers = each(&|i| format!("ld.global.u32 %a{i}, [%rd6+{}];\n", 4 * i), 4);
        format!(
            ".visible .entry {}(.param .u64 image, .param .u64 adesc, .param .u64 bdesc, .param .u64 aregs, .param .u64 c,
.param .u64 out, .param .u32 scale)
{{
.reg .pred %p<4>;
.reg .b32 %r<20>;
.reg .b32 %a<4>;
.reg .b64 %rd<12>;
.reg .{sums} %d<{count}>;
.shared .align 1024 .b8 tile[{IMAGE}];
ld.param.u64 %rd1, [image];
ld.param.u64 %rd4, [adesc];
ld.param.u64 %rd5, [bdesc];
ld.param.u64 %rd6, [aregs];
ld.param.u64 %rd7, [c];
ld.param.u64 %rd8, [out];
ld.param.u32 %r1, [scale];
mov.u32 %r0, %tid.x;
mov.u32 %r2, tile;
shl.b32 %r5, %r0, 4;
FILL:
add.u32 %r6, %r2, %r5;
cvt.u64.u32 %rd2, %r5;
add.u64 %rd2, %rd1, %rd2;
ld.global.v4.u32 {{%r7, %r8, %r9, %r10}}, [%rd2];
st.shared.v4.u32 [%r6], {{%r7, %r8, %r9, %r10}};
add.u32 %r5, %r5, 2048;
setp.lt.u32 %p1, %r5, {IMAGE};
@%p1 bra FILL;
fence.proxy.async;
bar.sync 0;
shr.u32 %r3, %r2, 4;
cvt.u64.u32 %rd3, %r3;
add.u64 %rd4, %rd4, %rd3;
add.u64 %rd5, %rd5, %rd3;
mad.wide.u32 %rd6, %r0, 16, %rd6;
mad.wide.u32 %rd7, %r0, {bytes}, %rd7;
mad.wide.u32 %rd8, %r0, {bytes}, %rd8;
{in_registers}{loads}setp.ne.u32 %p2, %r1, 0;
wgmma.fence.sync.aligned;
{}
wgmma.commit_group.sync.aligned;
wgmma.wait_group.sync.aligned 0;
{stores}ret;
}}
",
            self.name(),
            self.instruction(),
            bytes = 4 * count,
            loads = each(&|i| format!("ld.global.{sums} %d{i}, [%rd7+{}];\n", 4 * i), count),
            stores = each(&|i| format!("st.global.{sums} [%rd8+{}], %d{i};\n", 4 * i), count),
        )
    }

    /// The 16 or 32 bits of a whole number.
    fn bits(self, value: f64) -> u32 {
        match self.element {
            "tf32" => (value as f32).to_bits(),
            "bf16" => u32::from(bf16(value as f32)),
            _ => u32::from(f16(value)),
        }
    }

    /// The registers of all threads with an A in registers.
    fn a_registers(self, a: &[f64]) -> Vec<u32> {
        let k = self.k();
        let one = |i: usize| {
            let (thread, register) = (i / 4, i % 4);
            let (row, quad) = (thread / 32 * 16 + thread % 32 / 4 + 8 * (register % 2), thread % 4);
            if self.size() == 4 {
                return self.bits(a[row * k + quad + 4 * (register / 2)]);
            }
            let at = row * k + 2 * quad + 8 * (register / 2);
            self.bits(a[at]) | self.bits(a[at + 1]) << 16
        };
        (0..512).map(one).collect()
    }

    /// The bits of all threads' sums.
    fn sums(self, d: &[f64]) -> Vec<u32> {
        let (n, each) = (self.n, self.n / 2);
        let value = |i: usize| {
            let (thread, register) = (i / each, i % each);
            let row = thread / 32 * 16 + thread % 32 / 4 + register / 2 % 2 * 8;
            d[row * n + register / 4 * 8 + thread % 4 * 2 + register % 2]
        };
        if self.sums == "f16" {
            let pair = |i: usize| u32::from(f16(value(2 * i))) | u32::from(f16(value(2 * i + 1))) << 16;
            return (0..64 * n / 2).map(pair).collect();
        }
        (0..64 * n).map(|i| (value(i) as f32).to_bits()).collect()
    }
}

const IMAGE: usize = 45056;
/// Where B starts.
const SECOND: usize = 12288;

/// A whole number of at most 10 bits.
fn f16(value: f64) -> u16 {
    let bits = (value as f32).to_bits();
    if value == 0.0 {
        return 0;
    }
    let exponent = (bits >> 23 & 0xff) - 127 + 15;
    (bits >> 16 & 0x8000 | exponent << 10 | bits >> 13 & 0x3ff) as u16
}

fn run_one(module: CUmodule, shape: Shape, layouts: [Layout; 2], scale: bool, rng: &mut Rng) {
    let (n, k, size) = (shape.n, shape.k(), shape.size());
    let mut whole = |count: usize| -> Vec<f64> { (0..count).map(|_| rng.below(9) as f64 - 4.0).collect() };
    let (a, b, c) = (whole(64 * k), whole(n * k), whole(64 * n));
    // NaNs where no operand lies.
    let mut image = vec![0xffu8; IMAGE];
    for (values, rows, layout, start) in [(&a, 64, layouts[0], 0), (&b, n, layouts[1], SECOND)] {
        for (i, value) in values.iter().enumerate().take(rows * k) {
            let at = start + layout.place(size, i / k, i % k);
            image[at..at + size].copy_from_slice(&shape.bits(*value).to_le_bytes()[..size]);
        }
    }
    let sign = f64::from(shape.signs[0] * shape.signs[1]);
    let d: Vec<f64> = (0..64 * n)
        .map(|i| {
            let sum: f64 = (0..k).map(|q| a[i / n * k + q] * b[i % n * k + q]).sum();
            sign * sum + if scale { c[i] } else { 0.0 }
        })
        .collect();
    // The bits of a sum, or of two; -0 counts as 0.
    let halves = |bits: u32| match shape.sums {
        "f16" => [bits & 0xffff, bits >> 16].map(|half| half * u32::from(half & 0x7fff != 0)),
        _ => [bits * u32::from(bits << 1 != 0), 0],
    };
    let words = shape.sums(&d).len();
    let out = upload(&vec![0xffff_ffffu32; words]);
    let args = Args::default()
        .ptr(upload(&image))
        .ptr(layouts[0].descriptor(0))
        .ptr(layouts[1].descriptor(SECOND))
        .ptr(upload(&shape.a_registers(&a)))
        .ptr(upload(&shape.sums(&c)))
        .ptr(out)
        .int(scale.into());
    let what = format!("{} with {layouts:?}", shape.instruction());
    runs(function(module, &shape.name()), [1, 1, 1], 128, 0, args, &what);
    let (found, wanted): (Vec<u32>, _) = (download(out, words), shape.sums(&d));
    for i in 0..words {
        let (thread, register) = (i / shape.count(), i % shape.count());
        let (found, wanted) = (halves(found[i]), halves(wanted[i]));
        assert_eq!(found, wanted, "{what}: thread {thread}, register {register}");
    }
}

const PLAIN: Shape =
    Shape { sums: "f32", element: "bf16", n: 64, registers: false, k_major: [true; 2], signs: [1; 2], adds: "%p2" };

/// Runs each shape with all pairs of its first and its other layouts.
fn run_all(shapes: &[Shape]) {
    let Some(_context) = hopper() else { return };
    let module = compile(&module(shapes));
    let mut rng = Rng(46);
    for shape in shapes {
        let [of_a, of_b] = [(0, 64), (1, shape.n)].map(|(i, rows)| layouts(shape.k_major[i], rows));
        for i in 0..of_a.len().max(of_b.len()) {
            let pair = [of_a[i % of_a.len()], of_b[(i + 3) % of_b.len()]];
            run_one(module, *shape, pair, i % 2 == 0, &mut rng);
        }
    }
}

fn module(shapes: &[Shape]) -> String {
    header("sm_90a") + &shapes.iter().map(|shape| shape.kernel()).collect::<String>()
}

/// Every n of every type with f32 sums, and of f16 sums.
fn widths() -> Vec<Shape> {
    let types = [("f32", "bf16"), ("f32", "f16"), ("f32", "tf32"), ("f16", "f16")];
    let all = types.iter().flat_map(|(sums, element)| (1..33).map(move |n| Shape { sums, element, n: 8 * n, ..PLAIN }));
    all.collect()
}

fn majors() -> Vec<Shape> {
    let mut all = Vec::new();
    for element in ["bf16", "f16"] {
        for n in [8, 40, 64, 136, 256] {
            for k_major in [[false, true], [true, false], [false, false]] {
                all.push(Shape { element, n, k_major, ..PLAIN });
            }
        }
    }
    all
}

fn registers() -> Vec<Shape> {
    let types = [("f32", "bf16"), ("f32", "f16"), ("f32", "tf32"), ("f16", "f16")];
    let mut all = Vec::new();
    for (sums, element) in types {
        for n in [8, 72, 256] {
            all.push(Shape { sums, element, n, registers: true, ..PLAIN });
            if element != "tf32" {
                all.push(Shape { sums, element, n, registers: true, k_major: [true, false], ..PLAIN });
            }
        }
    }
    all
}

fn signs() -> Vec<Shape> {
    let shapes = [PLAIN, Shape { element: "tf32", ..PLAIN }, Shape { registers: true, ..PLAIN }];
    let pairs = [[-1, 1], [1, -1], [-1, -1]];
    shapes.iter().flat_map(|shape| pairs.map(|signs| Shape { signs, ..*shape })).collect()
}

#[test]
fn products_of_every_width_and_type_are_exact() {
    run_all(&widths());
}

#[test]
fn operands_of_either_major_dimension_are_multiplied() {
    run_all(&majors());
}

#[test]
fn a_may_be_in_registers() {
    run_all(&registers());
}

#[test]
fn negated_operands_change_the_sign() {
    run_all(&signs());
}

/// The sums are overwritten by an immediate 0, and added to by 1, whatever the predicate.
#[test]
fn a_number_says_whether_the_sums_are_added_to() {
    let Some(_context) = hopper() else { return };
    let shapes = constants();
    let module = compile(&module(&shapes));
    let mut rng = Rng(47);
    for shape in shapes {
        let [of_a, of_b] = [(0, 64), (1, shape.n)].map(|(i, rows)| layouts(shape.k_major[i], rows));
        run_one(module, shape, [of_a[3], of_b[4]], shape.adds == "1", &mut rng);
    }
}

fn constants() -> Vec<Shape> {
    let all =
        [PLAIN, Shape { element: "tf32", ..PLAIN }, Shape { sums: "f16", element: "f16", registers: true, ..PLAIN }];
    all.iter().flat_map(|shape| ["0", "1"].map(|adds| Shape { adds, ..*shape })).collect()
}

/// The lower 13 bits of an f32 are no part of a TF32 number: a product does not round them.
#[test]
fn tf32_operands_are_truncated() {
    let Some(_context) = hopper() else { return };
    let shape = Shape { element: "tf32", n: 8, ..PLAIN };
    let module = compile(&module(&[shape]));
    let layout = layouts(true, 8)[0];
    let mut image = vec![0u8; IMAGE];
    // A has one number a row, at k = 3; B has a 1 there in each row.
    let of_row = |row: usize| 0x3f80_1fff + row as u32 * 0x2345;
    for row in 0..64 {
        let at = layout.place(4, row, 3);
        image[at..at + 4].copy_from_slice(&of_row(row).to_le_bytes());
    }
    for row in 0..8 {
        let at = SECOND + layout.place(4, row, 3);
        image[at..at + 4].copy_from_slice(&0x3f80_1fffu32.to_le_bytes());
    }
    let out = alloc(64 * 8 * 4);
    let none = upload(&[0u32; 512]);
    let args = Args::default().ptr(upload(&image)).ptr(layout.descriptor(0)).ptr(layout.descriptor(SECOND));
    let args = args.ptr(none).ptr(none).ptr(out).int(0);
    runs(function(module, &shape.name()), [1, 1, 1], 128, 0, args, "truncation");
    for (i, found) in download::<u32>(out, 512).into_iter().enumerate() {
        let (thread, register) = (i / 4, i % 4);
        let row = thread / 32 * 16 + thread % 32 / 4 + register / 2 % 2 * 8;
        assert_eq!(found, of_row(row) & !0x1fff, "row {row}");
    }
}

/// The generated modules, for ptxas.
pub fn modules() -> [String; 5] {
    [widths(), majors(), registers(), signs(), constants()].map(|shapes| module(&shapes))
}
