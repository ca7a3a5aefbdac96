//! `atlas fetch` from outside, against servers with every fault that a server can have.

mod certificates;
mod faults;
mod kaggle;
mod limits;
mod resume;
mod server;
mod setup;
mod unpack;
mod xml;
