//! Networks as files for other programs, read back by readers of their own.

#[cfg(feature = "onnx")]
mod graph;
#[cfg(feature = "onnx")]
mod meaning;
#[cfg(feature = "onnx")]
mod onnx;
mod together;
#[cfg(feature = "onnx")]
mod wire;

use std::fs;

use mlpconv::data::Normalization;
use mlpconv::export::{self, Meta};
use mlpconv::nn::{
    Builder, Conv2d, Custom, Dropout, Flatten, GlobalAvgPool, Init, Layer, MaxPool, Module, Nin, Op, Relu, Sequential,
};
use mlpconv::shape::Window;
use mlpconv::{Backend, Cpu, Error, Param, Result, Shape, Tape, Var};

/// An embedder's network, for three channels: every kind of layer, a ReLU of its own and one in an epilogue.
fn coloured(backend: &Cpu<f32>) -> Sequential<Cpu<f32>> {
    let mut build = Builder::new(backend, Init::He, 7);
    Sequential::new()
        .push(build.conv2d(3, 4, 3, 2, 1).unwrap())
        .push(Relu)
        .push(MaxPool { window: 2, stride: 1 })
        .push(Dropout(0.25))
        .push(build.nin_block(4, 5, 3, 1, 1).unwrap().with_linear_output())
        .push(GlobalAvgPool)
        .push(Flatten)
}

fn meta() -> Meta {
    let normalization = Normalization::new(vec![0.5, 0.25, 0.125], vec![0.5, 2.0, 0.75]).unwrap();
    let classes = ["a", "\"quoted\"", "c", "d", "e"].map(str::to_owned).to_vec();
    Meta { preset: None, classes, normalization }
}

const IMAGES: Shape = Shape::image(6, 3, 9, 11);

/// A layer that no file can hold.
struct Own;

impl<B: Backend> Module<B> for Own {
    fn layers<'a>(&'a self, path: &str, layers: &mut Vec<Layer<'a, B>>) {
        layers.push(Layer::new(path, "", Op::Custom(self)));
    }
}

impl<B: Backend> Custom<B> for Own {
    fn name(&self) -> String {
        "Own".into()
    }

    fn output(&self, x: Shape) -> Result<Shape> {
        Ok(x)
    }

    fn forward(&self, _: &mut Tape<B>, x: Var<B>) -> Result<Var<B>> {
        Ok(x)
    }
}

#[test]
fn an_array_has_numpys_bytes() {
    let backend = Cpu::<f32>::new();
    // In memory KRSC: the two channels of a pixel lie side by side.
    let weight = Param::new(&backend, Shape::weight(1, 2, 1, 3), &[0.0, 10.0, 1.0, 11.0, 2.0, 12.0]).unwrap();
    let bias = Param::new(&backend, Shape::vector(1), &[-0.5]).unwrap();
    let net = Sequential::new().push(Conv2d::new(weight, bias, Window::default()));
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("new/arrays");
    let files = export::npy(&backend, &net, &folder).unwrap();
    assert_eq!(files, [folder.join("0.bias.npy"), folder.join("0.weight.npy")]);
    assert_eq!(fs::read_dir(place.path().join("new")).unwrap().count(), 1, "nothing but the folder");

    // As numpy.save writes them.
    let golden = |shape: &str, values: &[f32]| {
        let head = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        bytes.extend(format!("{head:117}\n").into_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    };
    assert_eq!(fs::read(&files[0]).unwrap(), golden("(1,)", &[-0.5]));
    assert_eq!(fs::read(&files[1]).unwrap(), golden("(1, 2, 1, 3)", &[0.0, 1.0, 2.0, 10.0, 11.0, 12.0]));

    let refused = export::npy(&backend, &net, &folder).unwrap_err().to_string();
    assert!(refused.contains("is not empty") && refused.contains("name a new or empty one"), "{refused}");
    let empty = place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(export::npy(&backend, &net, &empty).unwrap().len(), 2);
}

#[test]
fn a_pytorch_module_is_nested_as_its_names_are() {
    let backend = Cpu::<f32>::new();
    let text = export::torch_py(&coloured(&backend), IMAGES, &meta()).unwrap();
    let start = text.find("super().__init__(\n").unwrap();
    let expected = [
        "super().__init__(",
        "            nn.Conv2d(3, 4, kernel_size=3, stride=2, padding=1),",
        "            nn.ReLU(),",
        "            nn.MaxPool2d(kernel_size=2, stride=1),",
        "            nn.Dropout(0.25),",
        "            nn.Sequential(",
        "                nn.Conv2d(4, 5, kernel_size=3, padding=1),",
        "                nn.ReLU(),",
        "                nn.Conv2d(5, 5, kernel_size=1),",
        "                nn.ReLU(),",
        "                nn.Conv2d(5, 5, kernel_size=1),",
        "            ),",
        "            nn.AdaptiveAvgPool2d(1),",
        "            nn.Flatten(),",
        "        )",
        "",
    ];
    assert_eq!(text[start..], expected.join("\n"), "{text}");
    for line in
        ["SIZE = (9, 11)", "MEAN = [0.5, 0.25, 0.125]", "DEVIATION = [0.5, 2.0, 0.75]", "    \"\\\"quoted\\\"\","]
    {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    let preset = Meta { preset: Some("small".into()), ..Meta::default() };
    let text = export::torch_py(&Nin::small(&backend, 1).unwrap(), Shape::image(1, 1, 28, 28), &preset).unwrap();
    assert!(text.contains("PRESET = \"small\"") && text.contains("    \"9\",\n]"), "{text}");
}

#[test]
fn what_a_file_cannot_hold_is_refused_by_name() {
    let backend = Cpu::<f32>::new();
    let mut build = Builder::new(&backend, Init::He, 0);
    let own = Sequential::new().push(build.conv2d(3, 4, 3, 1, 1).unwrap()).push(Own);
    let error = export::torch_py(&own, IMAGES, &Meta::default()).unwrap_err();
    assert!(matches!(&error, Error::CustomLayer { layer, name, .. } if layer == "1" && name == "Own"), "{error}");
    let net = coloured(&backend);
    let refused = |input, meta: &Meta| export::torch_py(&net, input, meta).unwrap_err();
    let other = refused(Shape::image(1, 2, 9, 11), &meta());
    assert!(matches!(other, Error::Shape { .. }), "{other}");
    let names = refused(IMAGES, &Meta { classes: vec!["only".into()], ..meta() }).to_string();
    assert_eq!(names, "classes: 1 names for a network of 5 outputs; give one for each, or none");
    let two = Normalization::new(vec![0.0; 2], vec![1.0; 2]).unwrap();
    let means = refused(IMAGES, &Meta { normalization: two, ..meta() }).to_string();
    assert!(means.starts_with("normalize: 2 means for images of 3 channels"), "{means}");
}
