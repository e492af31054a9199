//! ONNX files. Numbers of fields are those of the standard's `onnx.proto`.

use mlpconv::nn;

use super::wire::Message;
use super::*;

/// A node: operator, inputs, output, and attributes of integers by name.
pub type Node = (String, Vec<String>, String, Vec<(String, Vec<i64>)>);

pub fn node(node: &Message) -> Node {
    let attribute = |attribute: &Message| {
        let (one, many) = (attribute.numbers(3), attribute.numbers(8));
        // 2 is an integer, 7 a list of them.
        assert_eq!(attribute.numbers(20), [if one.is_empty() { 7 } else { 2 }]);
        (attribute.text(1).to_owned(), [one, many].concat())
    };
    let inputs = node.texts(1).into_iter().map(str::to_owned).collect();
    (node.text(4).into(), inputs, node.text(2).into(), node.messages(5).iter().map(attribute).collect())
}

/// A value's extents: numbers, or names.
pub fn extents(value: &Message) -> Vec<String> {
    let tensor = value.message(2).message(1);
    assert_eq!(tensor.numbers(1), [1], "f32");
    let dims = tensor.message(2).messages(1);
    let extent = |dim: &Message| match &dim.numbers(1)[..] {
        [] => dim.text(2).to_owned(),
        numbers => numbers[0].to_string(),
    };
    dims.iter().map(extent).collect()
}

#[test]
fn a_network_is_a_chain_of_operators() {
    let backend = Cpu::<f32>::new();
    let net = coloured(&backend);
    let bytes = export::onnx(&backend, &net, IMAGES, &meta()).unwrap();
    assert_eq!(bytes, export::onnx(&backend, &net, IMAGES.with_batch(1), &meta()).unwrap(), "equal bytes");
    let model = Message::of(&bytes);
    assert_eq!(model.numbers(1), [8], "ir_version");
    let opset = model.message(8);
    assert_eq!((opset.text(1), opset.numbers(2)), ("", vec![export::OPSET]));
    assert_eq!((model.text(2), model.text(3)), ("mlpconv", env!("CARGO_PKG_VERSION")));
    let facts = model.messages(14);
    let facts: Vec<_> = facts.iter().map(|entry| (entry.text(1), entry.text(2))).collect();
    let expected = [
        ("classes", r#"["a","\"quoted\"","c","d","e"]"#),
        ("deviation", "[0.5,2.0,0.75]"),
        ("input_size", "[9,11]"),
        ("mean", "[0.5,0.25,0.125]"),
    ];
    assert_eq!(facts, expected);

    let graph = model.message(7);
    let (input, output) = (graph.message(11), graph.message(12));
    assert_eq!((input.text(1), extents(&input)), ("images", ["batch", "3", "9", "11"].map(str::to_owned).to_vec()));
    assert_eq!((output.text(1), extents(&output)), ("logits", ["batch", "5"].map(str::to_owned).to_vec()));

    let nodes: Vec<Node> = graph.messages(1).iter().map(node).collect();
    let operators: Vec<&str> = nodes.iter().map(|(op, ..)| &**op).collect();
    let block = ["Conv", "Relu", "Conv", "Relu", "Conv"];
    let expected = [&["Conv", "Relu", "MaxPool"], &block[..], &["GlobalAveragePool", "Flatten"]].concat();
    assert_eq!(operators, expected, "dropout is left out");
    assert_eq!(nodes[0].1, ["images", "0.weight", "0.bias"]);
    assert_eq!(nodes.last().unwrap().2, "logits");
    for pair in nodes.windows(2) {
        assert_eq!(pair[0].2, pair[1].1[0], "a node reads the output of the one before");
    }
    let attributes = |at: usize| nodes[at].3.iter().map(|(name, values)| (&**name, &values[..])).collect::<Vec<_>>();
    let conv: [(&str, &[i64]); 5] =
        [("dilations", &[1, 1]), ("group", &[1]), ("kernel_shape", &[3, 3]), ("pads", &[1; 4]), ("strides", &[2, 2])];
    assert_eq!(attributes(0), conv);
    let pool: [(&str, &[i64]); 3] = [("ceil_mode", &[0]), ("kernel_shape", &[2, 2]), ("strides", &[1, 1])];
    assert_eq!(attributes(2), pool);
    assert_eq!(attributes(9), [("axis", &[1][..])]);
}

/// Initializers are the tensors of a safetensors file, to the bit.
#[test]
fn initializers_have_pytorchs_names_and_layout() {
    let backend = Cpu::<f32>::new();
    let net = coloured(&backend);
    let bytes = export::onnx(&backend, &net, IMAGES, &meta()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("net.safetensors");
    mlpconv::weights::save(&backend, &net, &path).unwrap();
    let saved = fs::read(path).unwrap();
    let saved = safetensors::SafeTensors::deserialize(&saved).unwrap();
    let initializers = Message::of(&bytes).message(7).messages(5);
    assert_eq!(initializers.len(), saved.len());
    for initializer in initializers {
        let name = initializer.text(8);
        let tensor = saved.tensor(name).unwrap();
        let dims: Vec<i64> = tensor.shape().iter().map(|&extent| extent as i64).collect();
        assert_eq!((initializer.numbers(1), initializer.numbers(2)), (dims, vec![1]), "{name}");
        assert_eq!(initializer.bytes(9), [tensor.data()], "{name}");
    }
}

#[test]
fn values_between_nodes_have_the_plans_shapes() {
    let backend = Cpu::<f32>::new();
    let net = Nin::small(&backend, 1).unwrap();
    let preset = Meta { preset: Some("small".into()), ..Meta::default() };
    let bytes = export::onnx(&backend, &net, Shape::image(1, 1, 28, 28), &preset).unwrap();
    let model = Message::of(&bytes);
    let facts = model.messages(14);
    assert!(facts.iter().any(|entry| (entry.text(1), entry.text(2)) == ("preset", "small")));
    let values = model.message(7).messages(13);
    assert_eq!(values[0].text(1), "0.0");
    assert_eq!(extents(&values[0]), ["batch", "48", "14", "14"]);
    let convolutions = nn::layers(&net).iter().filter(|layer| matches!(layer.op, Op::Conv2d { .. })).count();
    let nodes = model.message(7).messages(1);
    assert_eq!(nodes.iter().filter(|node| node.text(4) == "Conv").count(), convolutions);
    assert_eq!(values.len() + 1, nodes.len());
}

#[test]
fn a_custom_layer_is_refused() {
    let backend = Cpu::<f32>::new();
    let error = export::onnx(&backend, &Sequential::new().push(Own), IMAGES, &Meta::default()).unwrap_err();
    let said = "layer 0 is Own, a custom layer, which ONNX cannot hold";
    assert!(error.to_string().starts_with(said), "{error}");
}
