//! The numbers in which a network computes, and the memory layout of its images and kernels.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{self, Layout};

/// The numbers in which a network computes; its parameters are f32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    F32,
    Bf16,
}

/// `train.precision` and `train.layout` with `auto` resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeMode {
    #[serde(default = "f32")]
    pub precision: Precision,
    /// Whether images and kernels are channels-last in memory.
    pub channels_last: bool,
}

/// For old checkpoints, which do not state it; the config.toml of their run does.
fn f32() -> Precision {
    Precision::F32
}

impl ComputeMode {
    /// The default, unless a measurement favours another.
    pub const PREFERRED: Self = Self { precision: Precision::F32, channels_last: true };

    /// All of them, in order of preference.
    pub const ALL: [Self; 4] = [
        Self::PREFERRED,
        Self { channels_last: false, ..Self::PREFERRED },
        Self { precision: Precision::Bf16, ..Self::PREFERRED },
        Self { precision: Precision::Bf16, channels_last: false },
    ];

    /// As configured, with `otherwise` for each key that is `auto`.
    pub fn of(train: &config::Train, otherwise: Self) -> Self {
        Self {
            precision: match train.precision {
                config::Precision::Auto => otherwise.precision,
                config::Precision::F32 => Precision::F32,
                config::Precision::Bf16 => Precision::Bf16,
            },
            channels_last: match train.layout {
                Layout::Auto => otherwise.channels_last,
                Layout::Nchw => false,
                Layout::Nhwc => true,
            },
        }
    }
}

/// Such as `bf16/nhwc`, with the values of the keys.
impl fmt::Display for ComputeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = match self.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        write!(f, "{precision}/{}", if self.channels_last { "nhwc" } else { "nchw" })
    }
}
