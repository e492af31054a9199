//! The architectures that kernels are compiled for. `build.rs` includes this file.

use std::fmt;

/// A virtual architecture of nvcc. The order is that of preference among those that a GPU runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Architecture {
    /// The compute capability in its name: (8, 0) of `compute_80`.
    pub capability: (u32, u32),
    /// The name ends in `a`: PTX with instructions of this capability, such as `wgmma` of 9.0, which runs on no other.
    pub specific: bool,
}

impl Architecture {
    /// That of `kernels/*.cu`: every GPU since Ampere runs it.
    pub const PORTABLE: Architecture = Architecture { capability: (8, 0), specific: false };

    /// `80` or `90a`, as the names of nvcc's and ptxas's architectures end; `None` for anything else.
    pub fn from_name(name: &str) -> Option<Self> {
        let (digits, specific) = name.strip_suffix('a').map_or((name, false), |digits| (digits, true));
        if digits.len() < 2 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (major, minor) = digits.split_at(digits.len() - 1);
        Some(Architecture { capability: (major.parse().ok()?, minor.parse().ok()?), specific })
    }

    /// Whether a GPU of compute capability `capability` runs its PTX.
    pub fn runs_on(self, capability: (u32, u32)) -> bool {
        if self.specific { capability == self.capability } else { capability >= self.capability }
    }

    /// Whether a GPU of compute capability `capability` runs machine code for it: that of an older GPU of the same major
    /// capability, but for Tegra's (CUDA C++ Programming Guide, "Binary Compatibility").
    pub fn code_runs_on(self, capability: (u32, u32)) -> bool {
        const TEGRA: [(u32, u32); 4] = [(7, 2), (8, 7), (10, 1), (11, 0)];
        let exactly = self.specific || TEGRA.contains(&capability) || TEGRA.contains(&self.capability);
        if exactly {
            capability == self.capability
        } else {
            self.runs_on(capability) && capability.0 == self.capability.0
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.capability;
        write!(f, "{major}{minor}{}", if self.specific { "a" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_nvcc() {
        for (name, capability, specific) in [("80", (8, 0), false), ("90a", (9, 0), true), ("121", (12, 1), false)] {
            let architecture = Architecture::from_name(name).unwrap();
            assert_eq!(architecture, Architecture { capability, specific });
            assert_eq!(architecture.to_string(), name);
        }
        for name in ["", "a", "8", "9a", "90f", "+90", "sm_90"] {
            assert_eq!(Architecture::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_specific_architecture_runs_on_its_own_capability_alone() {
        let [plain, specific] = ["90", "90a"].map(|name| Architecture::from_name(name).unwrap());
        for (capability, of_plain, of_specific) in
            [((8, 9), false, false), ((9, 0), true, true), ((10, 0), true, false)]
        {
            assert_eq!(plain.runs_on(capability), of_plain, "{capability:?}");
            assert_eq!(specific.runs_on(capability), of_specific, "{capability:?}");
            assert_eq!(plain.code_runs_on(capability), capability == (9, 0), "{capability:?}");
        }
    }
}
