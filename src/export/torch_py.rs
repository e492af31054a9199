//! A network as a PyTorch module, in Python source.

use super::described::Described;
use super::meta::Meta;
use super::tree::Tree;
use crate::nn::{Layer, Module, Op};
use crate::shape::Window;
use crate::{Backend, Error, Result, Shape};

/// The network's layers as a Python file that needs PyTorch alone: a class `Net`, whose `state_dict` has the names and
/// shapes of [`weights::save`](crate::weights::save), so that `net.load_state_dict(safetensors.torch.load_file(...))`
/// takes them. Beside it are `CLASSES`, `SIZE` (height and width), `MEAN` and `DEVIATION` of `meta`, and `normalize`,
/// which makes the network's input of images in bytes.
///
/// `input` is the shape of the images, `[N, C, H, W]`, whose number does not matter. ReLUs of convolutions become
/// modules of their own, under the next number where no layer has it.
///
/// # Errors
/// [`Error::CustomLayer`] for a layer that is no module of PyTorch's; [`Error::Shape`] if the network cannot take
/// images of this shape; [`Error::Config`] for names of another number of classes, normalisation of another number of
/// channels, and for layers that no `nn.Sequential` can hold under their names: without a name, shared, not in the
/// order of their modules, or with parameters that [`Module::params`] names differently.
pub fn torch_py<B: Backend>(net: &(impl Module<B> + ?Sized), input: Shape, meta: &Meta) -> Result<String> {
    let described = Described::new(net, input, meta, "a PyTorch module")?;
    require_names(net, &described.layers)?;
    let mut tree = Tree::new(described.layers.iter().map(|layer| &*layer.path));
    for Layer { path, op } in &described.layers {
        let refuse = |problem: String| Error::config(format!("layer {path}"), problem);
        tree.push(path, call(op)).map_err(refuse)?;
        if matches!(op, Op::Conv2d { relu: true, .. }) {
            let after = tree.after(path, "relu");
            tree.push(&after, "nn.ReLU()".into()).map_err(refuse)?;
        }
    }
    Ok(source(&described, meta, &tree.arguments(12)))
}

/// Checks that the parameters are those of the convolutions, under the names that PyTorch gives them.
fn require_names<B: Backend>(net: &(impl Module<B> + ?Sized), layers: &[Layer<'_, B>]) -> Result<()> {
    let mut params = net.params().into_iter();
    for Layer { path, op } in layers {
        let Op::Conv2d { weight, bias, .. } = op else { continue };
        for (word, param) in [("weight", weight), ("bias", bias)] {
            let listed =
                params.next().filter(|(name, listed)| *name == format!("{path}.{word}") && listed.id() == param.id());
            if listed.is_none() {
                let problem =
                    format!("its {word} is not listed as {path}.{word}, in the layers' order, by its module's params");
                return Err(Error::config(format!("layer {path}"), problem));
            }
        }
    }
    match params.next() {
        None => Ok(()),
        Some((name, _)) => Err(Error::config(format!("parameter {name}"), "no layer has it, so that no module would")),
    }
}

/// The call that makes a layer's module.
fn call<B: Backend>(op: &Op<'_, B>) -> String {
    match *op {
        Op::Conv2d { weight, window: Window { stride, pad }, .. } => {
            let &[k, c, r, s] = weight.shape().dims() else {
                unreachable!("a convolution's weights have four extents")
            };
            let kernel = if r == s { r.to_string() } else { format!("({r}, {s})") };
            let mut call = format!("nn.Conv2d({c}, {k}, kernel_size={kernel}");
            // As PyTorch leaves them out.
            if stride != 1 {
                call.push_str(&format!(", stride={stride}"));
            }
            if pad != 0 {
                call.push_str(&format!(", padding={pad}"));
            }
            call + ")"
        }
        Op::MaxPool { window, stride } => format!("nn.MaxPool2d(kernel_size={window}, stride={stride})"),
        Op::GlobalAvgPool => "nn.AdaptiveAvgPool2d(1)".into(),
        Op::Relu => "nn.ReLU()".into(),
        Op::Dropout(probability) => format!("nn.Dropout({probability})"),
        Op::Flatten => "nn.Flatten()".into(),
        Op::Custom(_) => unreachable!("a description has no custom layers"),
    }
}

fn source<B: Backend>(described: &Described<'_, B>, meta: &Meta, modules: &str) -> String {
    let Described { input, facts, .. } = described;
    let (c, h, w) = (input.c(), input.h(), input.w());
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    // JSON's strings and lists are Python's.
    let classes: String =
        facts.classes.iter().map(|class| format!("    {},\n", serde_json::Value::from(&**class))).collect();
    let list = |numbers: &[f32]| numbers.iter().map(|number| format!("{number:?}")).collect::<Vec<_>>().join(", ");
    let (mean, deviation) = (list(&facts.mean), list(&facts.deviation));
    let preset = meta.preset.as_deref().map_or("None".into(), |preset| serde_json::Value::from(preset).to_string());
    let ordered = if modules.contains("OrderedDict([\n") { "from collections import OrderedDict\n\n" } else { "" };
    format!(
        r#""""A network of {name} {version} as a PyTorch module, for images of {c}x{h}x{w}.

With this file as net.py and the weights as net.safetensors:

    import torch
    from safetensors.torch import load_file
    from net import CLASSES, Net, normalize

    net = Net()
    net.load_state_dict(load_file("net.safetensors"))
    net.eval()
    images = torch.zeros(1, {c}, {h}, {w}, dtype=torch.uint8)  # levels from 0 to 255
    with torch.no_grad():
        logits = net(normalize(images))
    print(CLASSES[logits[0].argmax()])
"""

{ordered}import torch
from torch import nn

# The preset whose network this is, if it is one's.
PRESET = {preset}
# Height and width of the images.
SIZE = ({h}, {w})
# Of each channel.
MEAN = [{mean}]
DEVIATION = [{deviation}]
# By label.
CLASSES = [
{classes}]


def normalize(images):
    """The network's input of images in bytes, [batch, {c}, {h}, {w}]."""
    mean, deviation = (torch.tensor(numbers, device=images.device).view(-1, 1, 1) for numbers in (MEAN, DEVIATION))
    return (images.float() / 255 - mean) / deviation


class Net(nn.Sequential):
    """Images [batch, {c}, {h}, {w}], normalised, to logits."""

    def __init__(self):
        super().__init__(
{modules}        )
"#
    )
}
