//! The members of the SE-ResNeXt family by name.

/// Shape of one member: four stages of bottlenecks with squeeze-and-excitation (Hu et al. 2018, Xie
/// et al. 2017).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arch {
    pub name: &'static str,
    /// Channels after the 7x7 convolution.
    pub stem: i64,
    /// Bottlenecks per stage; the first of stages 2 to 4 halves the side.
    pub blocks: [usize; 4],
    /// Channels of the grouped 3x3 convolution per stage.
    pub widths: [i64; 4],
    /// Output channels of each stage.
    pub outs: [i64; 4],
    /// Groups of the 3x3 convolution.
    pub groups: i64,
    /// The squeeze-and-excitation has outs / reduction hidden units.
    pub reduction: i64,
}

const fn member_32x4d(name: &'static str, blocks: [usize; 4]) -> Arch {
    Arch {
        name,
        stem: 64,
        blocks,
        widths: [128, 256, 512, 1024],
        outs: [256, 512, 1024, 2048],
        groups: 32,
        reduction: 16,
    }
}

/// All members, largest first. Those named `_32x4d` have timm's shapes; `se_resnext_small` and
/// `se_resnext_tiny` are for experiments in minutes, the demo and the tests.
pub const ARCHS: [Arch; 6] = [
    member_32x4d("se_resnext101_32x4d", [3, 4, 23, 3]),
    member_32x4d("se_resnext50_32x4d", [3, 4, 6, 3]),
    member_32x4d("se_resnext26_32x4d", [2, 2, 2, 2]),
    member_32x4d("se_resnext14_32x4d", [1, 1, 1, 1]),
    Arch {
        name: "se_resnext_small",
        stem: 32,
        blocks: [1, 1, 2, 1],
        widths: [64, 96, 128, 192],
        outs: [96, 192, 320, 512],
        groups: 8,
        reduction: 16,
    },
    Arch {
        name: "se_resnext_tiny",
        stem: 24,
        blocks: [1, 1, 1, 1],
        widths: [32, 64, 96, 128],
        outs: [48, 96, 160, 256],
        groups: 4,
        reduction: 8,
    },
];

impl Arch {
    /// The member called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        ARCHS.iter().find(|a| a.name == name)
    }

    /// Input channels of the head.
    pub fn features(&self) -> i64 {
        self.outs[3]
    }
}
