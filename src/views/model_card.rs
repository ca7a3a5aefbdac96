//! The model card of an exported network: its input and output, training data, scores and
//! provenance, as metadata of the weight file and as a Markdown page.

mod card;
mod markdown;

pub use card::Card;
pub use markdown::{Format, markdown};
