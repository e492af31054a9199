//! A network as an ONNX file, from its layers.

mod proto;

use std::collections::BTreeSet;

use prost::Message as _;

use super::described::Described;
use super::meta::Meta;
use crate::nn::{Layer, Module, Op};
use crate::shape::Window;
use crate::system::allocation::reserve;
use crate::tape::Param;
use crate::weights::Tensors;
use crate::{Backend, Error, Result, Shape};
use proto::{
    AttributeProto, Dimension, FLOAT, GraphProto, INT, INTS, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto,
};

/// The version of ONNX's operators that files ask for.
pub const OPSET: i64 = 17;
/// The version of the file format that came with these operators.
const IR_VERSION: i64 = 8;

const INPUT: &str = "images";
const OUTPUT: &str = "logits";
/// The name of the first extent of every value, which is open.
const BATCH: &str = "batch";

/// A protobuf message has fewer bytes than this.
const LIMIT: usize = 1 << 31;

/// The network as an ONNX file: operators of version 17 ([`OPSET`]), file format 8.
///
/// The input `images` is `[batch, C, H, W]`, f32, with `C`, `H` and `W` of `input`, whose number of images does not
/// matter: the batch stays open. Images are normalised before: `(value / 255 - mean) / deviation`, with the numbers of
/// `meta`. The output `logits` is `[batch, classes]`, for a network that ends in [`Flatten`](crate::nn::Flatten); else
/// it is what the last layer gives. Dropout is left out. Weights are initializers under PyTorch's names (`0.2.weight`),
/// in PyTorch's layout (OIHW).
///
/// The metadata are `classes`, `mean`, `deviation` (one for each channel) and `input_size` (height and width) as JSON
/// arrays, and `preset` if there is one.
///
/// Equal networks make equal bytes. [`write_whole`](crate::weights::write_whole) puts them into a file.
///
/// # Errors
/// [`Error::CustomLayer`] for a layer that is no operator of ONNX; [`Error::Shape`] if the network cannot take images
/// of this shape; [`Error::Config`] for names of another number of classes, normalisation of another number of
/// channels, a layer whose parameters [`Module::params`] does not list, two parameters of one name, a parameter named
/// as input or output, and a network of 2 GiB or more, which the format cannot hold; [`Error::Memory`] if the host has
/// too little; as the device ([`Device`](crate::device::Device)).
pub fn onnx<B: Backend>(backend: &B, net: &(impl Module<B> + ?Sized), input: Shape, meta: &Meta) -> Result<Vec<u8>> {
    let described = Described::new(net, input, meta, "ONNX")?;
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: "Network in Network. images are (value / 255 - mean) / deviation of levels from 0 to 255; \
                     mean, deviation and classes are in the metadata."
            .into(),
        graph: Some(Graph::of(backend, net, &described)?),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: OPSET }],
        metadata_props: metadata(&described, meta)?,
    };
    let length = model.encoded_len();
    if length >= LIMIT {
        let problem = format!("a file of {length} bytes would be more than the format's 2 GiB; save safetensors");
        return Err(Error::config("onnx", problem));
    }
    let mut bytes = Vec::new();
    reserve(&mut bytes, length).map_err(|_| Error::memory(length))?;
    model.encode(&mut bytes).map_err(|e| Error::config("onnx", e.to_string()))?;
    Ok(bytes)
}

fn metadata<B: Backend>(described: &Described<'_, B>, meta: &Meta) -> Result<Vec<StringStringEntryProto>> {
    let Described { input, facts, .. } = described;
    let json = |problem: serde_json::Error| Error::config("onnx", problem.to_string());
    let mut entries = vec![
        ("classes", serde_json::to_string(&facts.classes).map_err(json)?),
        ("deviation", serde_json::to_string(&facts.deviation).map_err(json)?),
        ("input_size", format!("[{},{}]", input.h(), input.w())),
        ("mean", serde_json::to_string(&facts.mean).map_err(json)?),
    ];
    entries.extend(meta.preset.clone().map(|preset| ("preset", preset)));
    Ok(entries.into_iter().map(|(key, value)| StringStringEntryProto { key: key.into(), value }).collect())
}

/// A graph in the making: a chain of nodes.
struct Graph<'a, B: Backend> {
    /// The network's parameters under their names.
    params: Vec<(String, &'a Param<B>)>,
    /// The names of values, each of which is given once.
    taken: BTreeSet<String>,
    /// The parameters that are read, in order.
    read: Vec<String>,
    nodes: Vec<NodeProto>,
    /// The output's shape of each node.
    shapes: Vec<Shape>,
}

impl<'a, B: Backend> Graph<'a, B> {
    fn of(backend: &B, net: &'a (impl Module<B> + ?Sized), described: &Described<'_, B>) -> Result<GraphProto> {
        let params = net.params();
        let mut taken: BTreeSet<String> = params.iter().map(|(name, _)| name.clone()).collect();
        for name in [INPUT, OUTPUT] {
            if !taken.insert(name.into()) {
                let problem = "a parameter has the name of the network's input or output; name it differently";
                return Err(Error::config(format!("parameter {name}"), problem));
            }
        }
        let mut graph = Graph { params, taken, read: Vec::new(), nodes: Vec::new(), shapes: Vec::new() };
        for (layer, output) in described.layers.iter().zip(&described.outputs) {
            graph.layer(layer, *output)?;
        }
        if graph.nodes.is_empty() {
            graph.node("identity", "Identity", Vec::new(), Vec::new(), described.output());
        }
        let Graph { mut nodes, shapes, read, .. } = graph;
        if let Some(last) = nodes.last_mut() {
            last.output = vec![OUTPUT.into()];
        }
        let between = nodes.iter().zip(shapes).take(nodes.len().saturating_sub(1));
        let value_info = between.map(|(node, shape)| value(&node.output[0], shape, "")).collect::<Result<_>>()?;
        let tensors = Tensors::of(backend, net)?;
        let tensor = |name: String| {
            let found = tensors.iter().find(|(other, ..)| *other == name);
            let (_, dims, values) = found.ok_or_else(|| unlisted(&name))?;
            let dims = dims.iter().map(|&extent| int(extent)).collect::<Result<_>>()?;
            let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Ok(TensorProto { dims, data_type: FLOAT, name, raw_data })
        };
        Ok(GraphProto {
            node: nodes,
            name: "network in network".into(),
            initializer: read.into_iter().map(tensor).collect::<Result<_>>()?,
            input: vec![value(INPUT, described.input, "normalised images, RGB or grey")?],
            output: vec![value(OUTPUT, described.output(), "one for each class; softmax makes probabilities of them")?],
            value_info,
        })
    }

    /// Appends the nodes of a layer.
    fn layer(&mut self, Layer { path, op }: &Layer<'_, B>, output: Shape) -> Result<()> {
        match *op {
            Op::Conv2d { weight, bias, window: Window { stride, pad }, relu } => {
                let params = vec![self.param(path, weight)?, self.param(path, bias)?];
                let [stride, pad] = [int(stride)?, int(pad)?];
                let attributes = vec![
                    ints("dilations", vec![1, 1]),
                    integer("group", 1),
                    ints("kernel_shape", vec![int(weight.shape().h())?, int(weight.shape().w())?]),
                    ints("pads", vec![pad; 4]),
                    ints("strides", vec![stride; 2]),
                ];
                self.node(path, "Conv", params, attributes, output);
                if relu {
                    self.node(&format!("{path}.relu"), "Relu", Vec::new(), Vec::new(), output);
                }
            }
            Op::MaxPool { window, stride } => {
                let attributes = vec![
                    integer("ceil_mode", 0),
                    ints("kernel_shape", vec![int(window)?; 2]),
                    ints("strides", vec![int(stride)?; 2]),
                ];
                self.node(path, "MaxPool", Vec::new(), attributes, output);
            }
            Op::GlobalAvgPool => self.node(path, "GlobalAveragePool", Vec::new(), Vec::new(), output),
            Op::Relu => self.node(path, "Relu", Vec::new(), Vec::new(), output),
            Op::Flatten => self.node(path, "Flatten", Vec::new(), vec![integer("axis", 1)], output),
            // Inference alone is written, in which nothing is dropped.
            Op::Dropout(_) => {}
            // The description has none.
            Op::Custom(custom) => {
                return Err(Error::CustomLayer { layer: path.clone(), name: custom.name(), format: "ONNX" });
            }
        }
        Ok(())
    }

    /// The name of a parameter, by which a node reads it.
    fn param(&mut self, layer: &str, param: &Param<B>) -> Result<String> {
        let found = self.params.iter().find(|(_, listed)| listed.id() == param.id());
        let name = found.map(|(name, _)| name.clone()).ok_or_else(|| unlisted(layer))?;
        // A parameter that two layers share is one initializer.
        if !self.read.contains(&name) {
            self.read.push(name.clone());
        }
        Ok(name)
    }

    /// Appends a node that reads the last node's output, and `params`. Node and output have the same name.
    fn node(&mut self, name: &str, op: &str, params: Vec<String>, attribute: Vec<AttributeProto>, output: Shape) {
        let before = self.nodes.last().map_or(INPUT.into(), |node| node.output[0].clone());
        let mut name = if name.is_empty() { op.to_lowercase() } else { name.to_owned() };
        while !self.taken.insert(name.clone()) {
            name.push('_');
        }
        let input = [vec![before], params].concat();
        self.nodes.push(NodeProto { input, output: vec![name.clone()], name, op_type: op.into(), attribute });
        self.shapes.push(output);
    }
}

fn unlisted(name: &str) -> Error {
    Error::config(
        format!("layer {name}"),
        "its parameters are not among the network's; let its module's params list them",
    )
}

/// An extent or a setting as ONNX has it.
fn int(number: usize) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::config("onnx", format!("{number} is more than the format can hold")))
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: Some(value), ints: Vec::new(), kind: INT }
}

fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.into(), i: None, ints: values, kind: INTS }
}

/// A value's name, its type, and its shape but for the batch.
fn value(name: &str, shape: Shape, doc_string: &str) -> Result<ValueInfoProto> {
    let mut dim = vec![Dimension { dim_value: None, dim_param: Some(BATCH.into()) }];
    for &extent in &shape.dims()[1..] {
        dim.push(Dimension { dim_value: Some(int(extent)?), dim_param: None });
    }
    let tensor = TensorType { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor) });
    Ok(ValueInfoProto { name: name.into(), r#type, doc_string: doc_string.into() })
}
