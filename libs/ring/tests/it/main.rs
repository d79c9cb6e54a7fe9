//! What placement promises, with the figures of `docs/adr/0008-placement.md`.

mod figures;
mod rules;
