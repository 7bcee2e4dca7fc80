// Counts operations by what they were, and prints the counts as JSON at the end.

const counts = {}

export function count(operation, number = 1) {
  counts[operation] = (counts[operation] ?? 0) + number
}

export function report() {
  console.log(JSON.stringify(counts))
}
