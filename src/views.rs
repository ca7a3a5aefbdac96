//! Finished runs for people to look at.
//!
//! In: the files of a run and its data. Out: `report.html`, a self-contained page; a local web
//! server with all samples of a run (`atlas explore`); the model card of exported weights.
//!
//! Read first: [`report`], whose `sections` are the parts of the page; [`explore`]; [`model_card`].

pub mod explore;
pub mod model_card;
pub mod report;
