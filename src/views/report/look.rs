//! Where the networks look: class activation maps of some samples, each by the network that has not
//! seen it.

use std::sync::Arc;

use ndarray::Array2;

use crate::{
    base::Result,
    config::{Config, Tta},
    data::shard::Store,
    distributed::device,
    inference::{finished_run::OutOfFold, grad_cam::Viewer},
    loading::{
        loader::{Loader, Make},
        sampler::Draw,
    },
    network::predictor,
    training::{run_folder::Run, train},
    views::report::samples::Shown,
};

/// One map `[h, w]`, 0 to 1, per sample, in their order, of the class for which it is shown; `None`
/// for those that the store lacks.
///
/// # Errors
/// Those of checkpoints and shards.
pub fn maps(
    config: &Config,
    run: &Run,
    answer: &OutOfFold,
    store: &Arc<Store>,
    shown: &[Shown],
) -> Result<Vec<Option<Array2<f32>>>> {
    let device = device::choose(config.comm.backend, 0)?;
    device::set_up_cpu(config.threads());
    let make = Make::Eval { augment: config.augment.clone(), tta: Tta::None };
    let mut maps = vec![None; shown.len()];
    for fold in run.finished_folds()? {
        let of_fold = shown.iter().enumerate().filter(|(_, s)| answer.folds[s.row] == fold);
        let mine: Vec<(usize, usize)> =
            of_fold.filter_map(|(at, s)| Some((at, store.find(&answer.ids[s.row])?))).collect();
        if mine.is_empty() {
            continue;
        }
        let trained = predictor::load(&train::weights_path(config, run, fold), config, device)?;
        let viewer = Viewer::new(&trained.network);
        // One image a batch: a handful of samples, and the memory of one.
        let batches = mine.iter().map(|&(_, sample)| vec![Draw { sample, key: 0 }]).collect();
        let side = make.side();
        for (batch, (at, _)) in
            Loader::new(store.clone(), batches, make.clone(), config.threads(), 2).zip(&mine)
        {
            let x = trained.normalization.apply(&batch?.images, side, device);
            maps[*at] = Some(viewer.view(&x).map(0, shown[*at].class));
        }
    }
    Ok(maps)
}
