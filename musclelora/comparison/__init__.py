"""Methods against attacks: a grid of trainings, what each gave, and how they rank."""
