//! The loss that training minimises: a weighted sum of terms over logits `[n, 28]` and targets
//! `[n, 28]` of 0 and 1.

use tch::{Kind, Tensor};

use crate::config::{Losses, Over, Reduce};

const EPS: f64 = 1e-6;

/// A term of the loss. To add one, add it here with its name, its weight in [`Losses`], and its
/// value in [`parts`] and [`per_sample`].
#[derive(Clone, Copy)]
enum Term {
    Bce,
    Focal,
    Lovasz,
    SoftF1,
}

impl Term {
    const ALL: [Self; 4] = [Self::Bce, Self::Focal, Self::Lovasz, Self::SoftF1];

    /// Name (also of its key and its column in tables) and weight.
    fn named_weight(self, losses: &Losses) -> (&'static str, f64) {
        match self {
            Self::Bce => ("bce", losses.bce),
            Self::Focal => ("focal", losses.focal),
            Self::Lovasz => ("lovasz", losses.lovasz),
            Self::SoftF1 => ("soft_f1", losses.soft_f1),
        }
    }
}

/// The configured weighted sum, a scalar through which gradients flow.
pub fn total(logits: &Tensor, targets: &Tensor, losses: &Losses) -> Tensor {
    let zero = Tensor::zeros([], (logits.kind(), logits.device()));
    parts(logits, targets, losses)
        .into_iter()
        .fold(zero, |sum, (_, weight, value)| sum + value * weight)
}

/// Each loss with a weight other than 0: its name, its weight, its value before the weight (a
/// scalar).
pub fn parts(
    logits: &Tensor,
    targets: &Tensor,
    losses: &Losses,
) -> Vec<(&'static str, f64, Tensor)> {
    let over = |over: Over| (sets(logits, over), sets(targets, over));
    each(losses, |term| {
        let values = match term {
            Term::Bce => bce(logits, targets),
            Term::Focal => focal_of(logits, targets, losses),
            Term::Lovasz => {
                let (logits, targets) = over(losses.lovasz_over);
                lovasz_hinge(&logits, &targets)
            }
            Term::SoftF1 => {
                let (logits, targets) = over(losses.soft_f1_over);
                soft_f1(&logits, &targets)
            }
        };
        values.mean(None::<Kind>)
    })
}

/// For the logs: each loss with a weight other than 0 per sample `[n]`, before the weight. Lovász
/// and soft F1 are taken over the classes of the sample, even if training uses other sets.
pub fn per_sample(
    logits: &Tensor,
    targets: &Tensor,
    losses: &Losses,
) -> Vec<(&'static str, Tensor)> {
    tch::no_grad(|| {
        let values = each(losses, |term| match term {
            Term::Bce => bce(logits, targets).mean_dim([-1].as_slice(), false, None::<Kind>),
            Term::Focal => focal_of(logits, targets, losses),
            Term::Lovasz => lovasz_hinge(logits, targets),
            Term::SoftF1 => soft_f1(logits, targets),
        });
        values.into_iter().map(|(name, _, value)| (name, value)).collect()
    })
}

fn each(losses: &Losses, value: impl Fn(Term) -> Tensor) -> Vec<(&'static str, f64, Tensor)> {
    let weighted = Term::ALL.map(|term| (term, term.named_weight(losses)));
    weighted
        .into_iter()
        .filter(|(_, (_, weight))| *weight != 0.0)
        .map(|(term, (name, weight))| (name, weight, value(term)))
        .collect()
}

/// Focal loss per sample, `[n]`.
fn focal_of(logits: &Tensor, targets: &Tensor, losses: &Losses) -> Tensor {
    let entries = focal(logits, targets, losses.focal_gamma, losses.focal_alpha);
    match losses.focal_reduce {
        Reduce::Mean => entries.mean_dim([-1].as_slice(), false, None::<Kind>),
        Reduce::Sum => entries.sum_dim_intlist([-1].as_slice(), false, None::<Kind>),
    }
}

/// A `[n, 28]` matrix with one set per row.
fn sets(x: &Tensor, over: Over) -> Tensor {
    match over {
        Over::Batch => x.reshape([1, -1]),
        Over::Sample => x.shallow_clone(),
        Over::Class => x.transpose(0, 1),
    }
}

/// +1 where the target is 1, -1 where it is 0.
fn signs(targets: &Tensor) -> Tensor {
    targets * 2.0 - 1.0
}

/// Binary cross-entropy per entry, `[n, 28]`.
pub fn bce(logits: &Tensor, targets: &Tensor) -> Tensor {
    -(logits * signs(targets)).log_sigmoid()
}

/// Focal loss per entry, `[n, 28]`: (1 - p_t)^gamma times the cross-entropy (Lin et al. 2017). With
/// `alpha` above 0, positives weigh alpha and negatives 1 - alpha.
pub fn focal(logits: &Tensor, targets: &Tensor, gamma: f64, alpha: f64) -> Tensor {
    let z = logits * signs(targets);
    // The power as the exponential of a logarithm, so that it and its gradient are finite for every
    // logit and gamma.
    let entries = (-&z).log_sigmoid().multiply_scalar(gamma).exp() * -z.log_sigmoid();
    if alpha > 0.0 { entries * (targets * (2.0 * alpha - 1.0) + (1.0 - alpha)) } else { entries }
}

/// Lovász hinge per row of `[sets, entries]` (Berman et al. 2018, with relu): the convex extension
/// of the Jaccard loss at the hinge errors. Entries with equal errors keep their order.
pub fn lovasz_hinge(logits: &Tensor, targets: &Tensor) -> Tensor {
    let errors = logits * signs(targets) * -1.0 + 1.0;
    let (sorted, order) = errors.sort_stable(true, -1, true);
    let weights = tch::no_grad(|| {
        let truth = targets.gather(-1, &order, false);
        let positives = truth.sum_dim_intlist([-1].as_slice(), true, None::<Kind>);
        let intersection = &positives - truth.cumsum(-1, None::<Kind>);
        let negatives: Tensor = 1.0 - &truth;
        let union = &positives + negatives.cumsum(-1, None::<Kind>);
        let jaccard: Tensor = 1.0 - intersection / union;
        // Before the first entry the set is empty and its Jaccard loss 0.
        let zero = jaccard.narrow(-1, 0, 1).zeros_like();
        jaccard.diff(1, -1, Some(zero), None)
    });
    (sorted.relu() * weights).sum_dim_intlist([-1].as_slice(), false, None::<Kind>)
}

/// 1 - F1 with probabilities instead of decisions, per row of `[sets, entries]`.
pub fn soft_f1(logits: &Tensor, targets: &Tensor) -> Tensor {
    let p = logits.sigmoid();
    let sum = |t: &Tensor| t.sum_dim_intlist([-1].as_slice(), false, None::<Kind>);
    let hits = sum(&(&p * targets));
    let (precision, recall) = (&hits / (sum(&p) + EPS), &hits / (sum(targets) + EPS));
    1.0 - &precision * &recall * 2.0 / (precision + recall + EPS)
}

#[cfg(test)]
mod tests;
