"""Explanations of the curves, a sentence each, for readers who know no paper. Terms of user methods have none."""

__all__ = ["CURVES", "METRICS", "SHARES", "TERMS"]

TERMS = {
    "loss": "The quantity that training minimises: lower is better.",
    "hard": "Distance of the answers from the true labels: for classes and tokens, minus the logarithm of the true "
    "one's probability (cross-entropy); for scores, squared error. 0 is perfect.",
    "soft": "Distance of the student's answers from the teacher's (for classes and tokens: KL divergence; for "
    "scores: squared error). 0 means equal answers.",
    "kd": "Distance of the student's answers from the teacher's (for classes: KL divergence, times the "
    "temperature squared). 0 means equal answers.",
    "cos_nce": "How far (by cosine) the student's layers are from the teacher's for the same text, compared with other "
    "texts: from 0 to 4 for each pair of layers, lower is better.",
    "cosine": "Angle between the student's layers and the teacher's: 1 minus the cosine. 0 means equal directions.",
    "centred": "Angle between the student's layers and the teacher's less what texts have in common: 1 minus the "
    "cosine. 0 means equal directions.",
    "hidden": "Squared distance of the student's layers from the teacher's. 0 means equal layers.",
    "embedding": "Squared distance of the student's word embeddings from the teacher's. 0 means equal embeddings.",
    "attention": "Squared distance of the student's attention scores from the teacher's. 0 means equal attention.",
    "queries": "Distance of the relations among tokens, by their queries, from the teacher's (KL divergence). 0 means "
    "equal relations.",
    "keys": "Distance of the relations among tokens, by their keys, from the teacher's (KL divergence). 0 means equal "
    "relations.",
    "values": "Distance of the relations among tokens, by their values, from the teacher's (KL divergence). 0 means "
    "equal relations.",
    "inter": "1 minus the correlation of student's and teacher's probabilities over a text's classes, times the "
    "temperature squared. 0 means equal relations of classes.",
    "intra": "1 minus the correlation of student's and teacher's probabilities over the texts of a batch, class by "
    "class, times the temperature squared. 0 means equal relations of texts.",
    "relative": "Squared distance of the differences between two texts' answers from the teacher's. 0 means equal "
    "differences.",
    "labels": "Squared distance of the differences between two texts' answers from those of their labels. 0 means "
    "equal differences.",
    "mixed": "Distance of the student's answers to mixtures of two texts from the teacher's, as in the kd term. 0 "
    "means equal answers.",
    "mixed_hard": "Distance of the answers to mixtures of two texts from the mixture of their labels, as in the label "
    "loss. Lower is better, above 0 even at best.",
    "patient": "Squared distance of the student's layers from the teacher's at the first token, both at length 1. 0 "
    "means equal directions.",
    "ptp": "How hard it is to tell whether the teacher answers a text rightly, and whether it is confident: minus the "
    "logarithm of the true one's probability, of four (cross-entropy). Lower is better.",
    "words": "Distance of the student's probabilities of masked words from the teacher's (KL divergence, times the "
    "temperature squared). 0 means equal probabilities.",
    "mlm": "How hard it is to guess masked words: minus the logarithm of the true word's probability (cross-entropy). "
    "Lower is better.",
    "ckd": "How hard it is to pick the teacher's vector of the same text among those of others: minus the "
    "logarithm of the right one's probability (cross-entropy). Lower is better.",
    "congen": "Distance of the student's similarities to other texts from the teacher's (cross-entropy): "
    "lower is better, above 0 even at best.",
    "rrd": "Distance of the student's similarities to other texts from the teacher's (cross-entropy): lower "
    "is better, above 0 even at best.",
    "distance": "Squared distance of the student's unit vectors from the teacher's: 0 means equal vectors, 2 a right "
    "angle.",
    "mse": "Squared distance of the student's vectors from the teacher's. 0 means equal vectors.",
    "contrast": "How hard it is to find the text that belongs to the anchor among those of the batch: minus the "
    "logarithm of the right one's probability (cross-entropy). Lower is better.",
    "jsd": "Distance of the student's distribution of the next token from the teacher's, in nats a token. 0 means "
    "equal distributions.",
    "easy": "Distance of the student's distribution among the tokens that are not the right one from the teacher's, in "
    "nats, over the tokens that the teacher finds easy.",
    "difficult": "Distance of the student's distribution from the teacher's, right token and others with equal weight, "
    "in nats, over the tokens that the teacher finds difficult.",
    "module_soft": "Distance of the teacher with its module from the student (KL divergence), in nats a token.",
    "module_hard": "Distance of the teacher with its module from the given answers (cross-entropy), in nats a token.",
    "anchor": "Distance of the vectors' similarities from those of the anchor model: lower means closer to it.",
}
SHARES = {
    "accepted": "Share of the tokens that the student wrote and the teacher let stand; the teacher wrote the others.",
    "fresh": "Share of the steps that learnt from texts that the student had just written.",
    "replayed": "Share of the steps that learnt from texts that the student had written earlier.",
}
"""What is logged beside the terms, each from 0 to 1."""
METRICS = {
    "kl": "nats a token between the model's and its teacher's distribution of the next token, on the given answers; "
    "lower is better.",
    "perplexity": "how surprised the model is by a token of the given answers; lower is better, 1 is best.",
    "exact_match": "the share of the prompts whose likeliest answer is the given one, token by token.",
    "rouge_l": "words in common with the given answer, in their order (longest common subsequence, F-measure); higher "
    "is better.",
    "own_nats": "how unlikely the teacher finds a token of the answers that the model writes, in nats; lower is "
    "better, unless the model repeats itself.",
    "distinct_2": "the share of all pairs of neighbouring tokens in the written answers that are different ones: far "
    "below the given answers', the model repeats itself. No interval: rows drawn twice would repeat their pairs. "
    "None where no answer has two tokens.",
}
"""Explanations of the scores of a language model."""
CURVES = {
    "learning_rate": "Size of the optimizer's steps, as scheduled.",
    "grad_norm": "Length of the loss's gradient over all weights. Single peaks are harmless; growth by powers of ten "
    "means that training diverges.",
}
