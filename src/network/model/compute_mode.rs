//! In which numbers a network computes, and how its images and kernels lie in memory.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{self, Layout};

/// In which numbers a network computes; its parameters are f32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    F32,
    Bf16,
}

/// What `train.precision` and `train.layout` come to: no `auto` is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeMode {
    #[serde(default = "f32")]
    pub precision: Precision,
    /// Whether images and kernels lie channels-last in memory.
    pub channels_last: bool,
}

/// Of checkpoints that do not say: their runs name it in their config.toml.
fn f32() -> Precision {
    Precision::F32
}

impl ComputeMode {
    /// Where nothing speaks for another.
    pub const PREFERRED: Self = Self { precision: Precision::F32, channels_last: true };

    /// All of them, those that are preferred first.
    pub const ALL: [Self; 4] = [
        Self::PREFERRED,
        Self { channels_last: false, ..Self::PREFERRED },
        Self { precision: Precision::Bf16, ..Self::PREFERRED },
        Self { precision: Precision::Bf16, channels_last: false },
    ];

    /// As the keys say, and where they say `auto`, as `otherwise`.
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

/// `bf16/nhwc`, in the words of the keys.
impl fmt::Display for ComputeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = match self.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        write!(f, "{precision}/{}", if self.channels_last { "nhwc" } else { "nchw" })
    }
}
