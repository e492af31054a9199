//! What an ONNX file computes, by loops written from the standard's formulas: nothing but the file's bytes and the
//! images goes in.
//!
//! Source: <https://onnx.ai/onnx/operators/>.

use std::collections::BTreeMap;

use super::onnx::{extents, node};
use super::wire::Message;

/// An array in row-major order.
#[derive(Clone)]
pub struct Array {
    pub dims: Vec<usize>,
    pub values: Vec<f64>,
}

impl Array {
    fn image(&self) -> [usize; 4] {
        self.dims[..].try_into().expect("four extents")
    }
}

/// The output `logits` for `images`. The shape that the file states of each value must be the one that comes out.
pub fn logits(file: &[u8], images: Array) -> Array {
    let graph = Message::of(file).message(7);
    let batch = images.dims[0].to_string();
    let mut values: BTreeMap<String, Array> = graph.messages(5).iter().map(initializer).collect();
    values.insert("images".into(), images);
    for message in graph.messages(1) {
        let (op, inputs, output, attributes) = node(&message);
        let inputs: Vec<&Array> = inputs.iter().map(|name| &values[name]).collect();
        let y = run(&op, &inputs, &attributes.into_iter().collect());
        assert!(values.insert(output, y).is_none(), "a value is given once");
    }
    let stated = [11, 12, 13].into_iter().flat_map(|field| graph.messages(field));
    for value in stated {
        let dims: Vec<usize> = extents(&value)
            .iter()
            .map(|extent| match &**extent {
                "batch" => batch.parse().unwrap(),
                extent => extent.parse().unwrap(),
            })
            .collect();
        assert_eq!(values[value.text(1)].dims, dims, "{}", value.text(1));
    }
    values.remove("logits").expect("the graph's output")
}

fn initializer(tensor: &Message) -> (String, Array) {
    let dims = tensor.numbers(1).iter().map(|&extent| extent as usize).collect();
    let bytes = tensor.bytes(9)[0].chunks_exact(4);
    let values = bytes.map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()))).collect();
    (tensor.text(8).into(), Array { dims, values })
}

/// One node. An attribute that is not looked at would go unnoticed, so all must be used.
fn run(op: &str, inputs: &[&Array], attributes: &BTreeMap<String, Vec<i64>>) -> Array {
    let mut left = attributes.clone();
    let mut take = |name: &str| -> Vec<usize> {
        left.remove(name).unwrap_or_default().into_iter().map(|number| usize::try_from(number).unwrap()).collect()
    };
    let y = match (op, inputs) {
        ("Conv", [x, weight, bias]) => {
            assert_eq!((take("group"), take("dilations")), (vec![1], vec![1, 1]));
            assert_eq!(take("kernel_shape"), weight.dims[2..]);
            conv(x, weight, bias, &take("strides"), &take("pads"))
        }
        ("MaxPool", [x]) => {
            assert_eq!(take("ceil_mode"), [0], "rounded down");
            max_pool(x, &take("kernel_shape"), &take("strides"))
        }
        ("GlobalAveragePool", [x]) => {
            let [n, c, h, w] = x.image();
            let mean = |channel: &[f64]| channel.iter().sum::<f64>() / (h * w) as f64;
            Array { dims: vec![n, c, 1, 1], values: x.values.chunks_exact(h * w).map(mean).collect() }
        }
        ("Flatten", [x]) => {
            assert_eq!(take("axis"), [1]);
            Array { dims: vec![x.dims[0], x.dims[1..].iter().product()], values: x.values.clone() }
        }
        ("Relu", [x]) => Array { dims: x.dims.clone(), values: x.values.iter().map(|value| value.max(0.0)).collect() },
        ("Identity", [x]) => Array::clone(x),
        _ => panic!("{op} of {} inputs", inputs.len()),
    };
    assert!(left.is_empty(), "{op}: {left:?}");
    y
}

/// y\[n, k, p, q\] = bias\[k\] + Σ weight\[k, c, i, j\] · x\[n, c, p·stride + i − pad, q·stride + j − pad\], where x is
/// zero outside. Pads are those of top, left, bottom and right.
fn conv(x: &Array, weight: &Array, bias: &Array, strides: &[usize], pads: &[usize]) -> Array {
    let ([n, c, h, w], [k, channels, r, s]) = (x.image(), weight.image());
    assert_eq!((channels, &bias.dims[..]), (c, &[k][..]));
    let (&[down, right], &[top, left, bottom, end]) = (strides, pads) else { panic!("{strides:?} {pads:?}") };
    let (rows, columns) = ((h + top + bottom - r) / down + 1, (w + left + end - s) / right + 1);
    let mut values = Vec::with_capacity(n * k * rows * columns);
    for (image, filter) in (0..n).flat_map(|image| (0..k).map(move |filter| (image, filter))) {
        for (p, q) in (0..rows).flat_map(|p| (0..columns).map(move |q| (p, q))) {
            let mut sum = bias.values[filter];
            for channel in 0..c {
                let plane = &x.values[(image * c + channel) * h * w..][..h * w];
                let taps = &weight.values[(filter * c + channel) * r * s..][..r * s];
                for (tap, weight) in taps.iter().enumerate() {
                    let (y, x) = ((p * down + tap / s).checked_sub(top), (q * right + tap % s).checked_sub(left));
                    if let (Some(y), Some(x)) = (y.filter(|y| *y < h), x.filter(|x| *x < w)) {
                        sum += weight * plane[y * w + x];
                    }
                }
            }
            values.push(sum);
        }
    }
    Array { dims: vec![n, k, rows, columns], values }
}

/// y\[n, c, p, q\] = max x\[n, c, p·stride + i, q·stride + j\], for windows that lie within x.
fn max_pool(x: &Array, kernel: &[usize], strides: &[usize]) -> Array {
    let [n, c, h, w] = x.image();
    let (&[r, s], &[down, right]) = (kernel, strides) else { panic!("{kernel:?} {strides:?}") };
    let (rows, columns) = ((h - r) / down + 1, (w - s) / right + 1);
    let mut values = Vec::with_capacity(n * c * rows * columns);
    for plane in x.values.chunks_exact(h * w) {
        for (p, q) in (0..rows).flat_map(|p| (0..columns).map(move |q| (p, q))) {
            let window = (0..r).flat_map(|i| (0..s).map(move |j| plane[(p * down + i) * w + q * right + j]));
            values.push(window.fold(f64::NEG_INFINITY, f64::max));
        }
    }
    Array { dims: vec![n, c, rows, columns], values }
}
