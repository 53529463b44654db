"""What a curve shows, in one sentence for a reader who knows no paper. A term of a method of one's own has none."""

__all__ = ["CURVES", "TERMS"]

TERMS = {
    "loss": "What training makes small: lower is better.",
    "hard": "Distance of the answers from the true labels (for classes: cross-entropy, in nats; for scores: squared "
    "error). 0 is perfect.",
    "soft": "Distance of the student's answers from the teacher's (for classes: KL divergence, in nats; for scores: "
    "squared error). 0 means equal answers.",
    "kd": "Distance of the student's answers from the teacher's (for classes: KL divergence, in nats, times the "
    "temperature squared). 0 means equal answers.",
    "cos_nce": "Angle between the student's layers and the teacher's for the same text, less that to other texts, by "
    "cosine: from 0 to 4 for each pair of layers, lower is better.",
    "hidden": "Squared distance of the student's layers from the teacher's. 0 means equal layers.",
    "embedding": "Squared distance of the student's word embeddings from the teacher's. 0 means equal embeddings.",
    "attention": "Squared distance of the student's attention scores from the teacher's. 0 means equal attention.",
    "patient": "Squared distance of the layers' directions at the first token, student against teacher. 0 means equal "
    "directions.",
    "ckd": "How hard it is to pick the teacher's vector of the same text among those of others (cross-entropy, in "
    "nats): lower is better.",
    "congen": "Distance of the student's similarities to other texts from the teacher's (cross-entropy, in nats): "
    "lower is better, above 0 even at best.",
    "rrd": "Distance of the student's similarities to other texts from the teacher's (cross-entropy, in nats): lower "
    "is better, above 0 even at best.",
    "distance": "Squared distance of the student's unit vectors from the teacher's: 0 means equal vectors, 2 a right "
    "angle.",
    "mse": "Squared distance of the student's vectors from the teacher's. 0 means equal vectors.",
    "contrast": "How hard it is to pick the text that belongs to another among all texts of the batch (cross-entropy, "
    "in nats): lower is better.",
    "anchor": "Distance of the vectors' similarities from those of the anchor model: lower means closer to it.",
}
CURVES = {
    "learning_rate": "How large a step training takes, by its schedule.",
    "grad_norm": "How strongly the loss pulls at the weights. Single peaks are harmless; growth by powers of ten means "
    "that training diverges.",
}
