//! Activation maps of some samples, each by the network that was not trained on it.

use std::sync::Arc;

use ndarray::Array2;

use crate::{
    base::Result,
    config::Tta,
    data::shard::Store,
    distributed::device,
    inference::grad_cam::FeatureExtractor,
    loading::{
        loader::{Loader, Make},
        sampler::Draw,
    },
    training::trained_network::TrainedNetwork,
    views::report::{scored_run::ScoredRun, selected_samples::SelectedSample},
};

/// By sample, the map `[h, w]`, 0 to 1, of the class for which it is shown; `None` for samples that
/// are not in the store.
///
/// # Errors
/// Those of checkpoints and shards.
pub fn maps(
    scored: &ScoredRun,
    store: &Arc<Store>,
    samples: &[SelectedSample],
) -> Result<Vec<Option<Array2<f32>>>> {
    let (config, run, answer) = (&scored.config, &scored.run, &scored.out_of_fold);
    let device = device::choose(config.comm.backend, 0)?;
    device::set_up_cpu(config.threads())?;
    let make = Make::Eval { augment: config.augment.clone(), tta: Tta::None };
    let mut maps = vec![None; samples.len()];
    for fold in run.finished_folds()? {
        let of_fold = samples.iter().enumerate().filter(|(_, s)| answer.folds[s.row] == fold);
        let mine: Vec<(usize, usize)> =
            of_fold.filter_map(|(at, s)| Some((at, store.find(&answer.ids[s.row])?))).collect();
        if mine.is_empty() {
            continue;
        }
        let path = run.weights(fold, config.train.keep);
        let trained = TrainedNetwork::from_checkpoint(&path, &config.train, device)?;
        let extractor = FeatureExtractor::new(&trained.network);
        // Few samples: one image a batch saves memory.
        let batches = mine.iter().map(|&(_, sample)| vec![Draw { sample, key: 0 }]).collect();
        let side = make.side();
        for (batch, (at, _)) in
            Loader::new(store.clone(), batches, make.clone(), config.threads(), 2).zip(&mine)
        {
            let x = trained.normalization.apply(&batch?.images, side, device);
            maps[*at] = Some(extractor.features(&x).activation_map(0, samples[*at].class));
        }
    }
    Ok(maps)
}
