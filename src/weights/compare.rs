//! How the tensors of a file differ from a network's parameters, in full: for a person who brings weights from
//! elsewhere.

use std::collections::BTreeMap;

use super::{Tensors, shapes};
use crate::nn::Module;
use crate::{Backend, Shape};

/// The differences between tensors and a network's parameters, in the network's order or by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What stands before the parameters' names in the tensors' names: nothing, or the prefix of most of them.
    pub prefix: String,
    /// The parameters for which there is no tensor.
    pub missing: Vec<String>,
    /// The tensors, as the file names them, for which there is no parameter.
    pub unexpected: Vec<String>,
    /// The parameters whose tensors have another shape: name, the tensor's extents, and the parameter's.
    pub reshaped: Vec<(String, Vec<usize>, Shape)>,
    /// Those of [`reshaped`](Self::reshaped), if they are the network's last ones and differ in the number of classes
    /// alone.
    pub head: Vec<String>,
    /// The number of classes of the tensors and that of the network, if there is such a head.
    pub classes: Option<[usize; 2]>,
}

impl Comparison {
    /// Whether every parameter has a tensor of its shape, and every tensor a parameter.
    pub fn fits(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.reshaped.is_empty()
    }
}

impl Tensors {
    /// Compares the tensors with a network's parameters.
    pub fn compare<B: Backend>(&self, net: &(impl Module<B> + ?Sized)) -> Comparison {
        let params = shapes(net);
        let prefix = self.commonest_prefix(&params);
        let tensor = |name: &str| self.tensors.get(&format!("{prefix}{name}"));
        let missing = params.iter().filter(|(name, _)| tensor(name).is_none()).map(|(name, _)| name.clone()).collect();
        let known =
            |name: &str| name.strip_prefix(&prefix).is_some_and(|rest| params.iter().any(|(param, _)| param == rest));
        let unexpected = self.tensors.keys().filter(|name| !known(name)).cloned().collect();
        let differs = |(at, (name, shape)): (usize, &(String, Shape))| {
            let dims = &tensor(name)?.dims;
            (dims != shape.dims()).then(|| (at, name.clone(), dims.clone(), *shape))
        };
        let reshaped: Vec<_> = params.iter().enumerate().filter_map(differs).collect();
        let first = reshaped.first().map_or(params.len(), |(at, ..)| *at);
        let last = params.last().zip(reshaped.last()).filter(|_| reshaped.len() == params.len() - first);
        // The last parameter is the bias of the classes.
        let classes = last.and_then(|((_, shape), (.., dims, _))| match (&dims[..], shape.dims()) {
            (&[theirs], &[ours]) => Some([theirs, ours]),
            _ => None,
        });
        let classes = classes.filter(|&[theirs, ours]| {
            let alike = |a: usize, b: usize| a == b || (a, b) == (theirs, ours);
            let shapes = |dims: &[usize], shape: &Shape| {
                let extents = dims.iter().zip(shape.dims());
                dims.len() == shape.dims().len() && extents.into_iter().all(|(&a, &b)| alike(a, b))
            };
            reshaped.iter().all(|(_, _, dims, shape)| shapes(dims, shape))
        });
        let reshaped: Vec<_> = reshaped.into_iter().map(|(_, name, dims, shape)| (name, dims, shape)).collect();
        let head = classes.map_or(Vec::new(), |_| reshaped.iter().map(|(name, ..)| name.clone()).collect());
        Comparison { prefix, missing, unexpected, reshaped, head, classes }
    }

    /// The prefix, of those before a dot, with which the most tensors have the name of a parameter; of equals the
    /// shortest.
    fn commonest_prefix(&self, params: &[(String, Shape)]) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.tensors.keys() {
            for (param, _) in params {
                if let Some(prefix) = name.strip_suffix(&**param)
                    && (prefix.is_empty() || prefix.ends_with('.'))
                {
                    *counts.entry(prefix).or_default() += 1;
                }
            }
        }
        let best = counts.into_iter().max_by_key(|(prefix, count)| (*count, std::cmp::Reverse(prefix.len())));
        best.map(|(prefix, _)| prefix.to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Cpu;
    use crate::nn::{Builder, Init, Sequential};

    /// A network whose last two convolutions have as many outputs as there are classes.
    fn net(widths: [usize; 2], classes: usize) -> Sequential<Cpu<f32>> {
        let mut build = Builder::new(&Cpu::<f32>::new(), Init::He, classes as u64);
        Sequential::new()
            .push(build.conv2d(1, widths[0], 3, 1, 0).unwrap())
            .push(build.conv2d(widths[0], widths[1], 1, 1, 0).unwrap())
            .push(build.conv2d(widths[1], classes, 3, 1, 0).unwrap())
            .push(build.conv2d(classes, classes, 1, 1, 0).unwrap())
    }

    fn values(net: &Sequential<Cpu<f32>>) -> Vec<Vec<f32>> {
        net.params().into_iter().map(|(_, param)| param.data().to_vec()).collect()
    }

    #[test]
    fn layers_that_differ_in_the_classes_alone_are_a_head() {
        let backend = Cpu::<f32>::new();
        let trained = net([4, 6], 5);
        let tensors = Tensors::of(&backend, &trained).unwrap();
        let mut other = net([4, 6], 3);
        let fresh = values(&other);
        let comparison = tensors.compare(&other);
        assert_eq!(comparison.classes, Some([5, 3]));
        assert_eq!(comparison.head, ["2.weight", "2.bias", "3.weight", "3.bias"]);
        assert!(!comparison.fits() && comparison.missing.is_empty() && comparison.unexpected.is_empty());
        let head = tensors.give_body_to(&backend, &mut other, Path::new("file")).unwrap();
        assert_eq!(head, comparison.head);
        assert_eq!(values(&other)[..4], values(&trained)[..4]);
        assert_eq!(values(&other)[4..], fresh[4..]);
        // As many classes: nothing stays.
        let mut same = net([4, 6], 5);
        assert!(tensors.give_body_to(&backend, &mut same, Path::new("file")).unwrap().is_empty());
        assert_eq!(values(&same), values(&trained));
    }

    #[test]
    fn layers_that_differ_in_more_are_no_head() {
        let backend = Cpu::<f32>::new();
        let tensors = Tensors::of(&backend, &net([4, 6], 5)).unwrap();
        // Another width before the head, with other classes and with the same.
        for mut other in [net([4, 7], 3), net([3, 6], 3), net([4, 7], 5)] {
            let before = values(&other);
            let comparison = tensors.compare(&other);
            assert!(comparison.classes.is_none() && comparison.head.is_empty() && !comparison.reshaped.is_empty());
            let error = tensors.give_body_to(&backend, &mut other, Path::new("file")).unwrap_err().to_string();
            assert!(error.contains("has shape"), "{error}");
            assert_eq!(values(&other), before);
        }
    }

    #[test]
    fn the_prefix_of_most_names_is_the_prefix() {
        let net = net([4, 6], 5);
        let mut tensors = Tensors::of(&Cpu::new(), &net).unwrap();
        let named = |(name, tensor)| (format!("module.{name}"), tensor);
        tensors.tensors = std::mem::take(&mut tensors.tensors).into_iter().map(named).collect();
        let lost = tensors.tensors.remove("module.1.bias").unwrap();
        tensors.tensors.insert("ema.1.bias".into(), lost);
        let comparison = tensors.compare(&net);
        assert_eq!(comparison.prefix, "module.");
        assert_eq!((comparison.missing, comparison.unexpected), (vec!["1.bias".into()], vec!["ema.1.bias".into()]));
    }
}
