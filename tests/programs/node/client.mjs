// Sends requests one after another by fetch and prints the count of its responses by status.
// `node client.mjs URL COUNT MIX`, where MIX is a JSON list of [method, path, body size] to cycle through.
const [url, count, mix] = [process.argv[2], Number(process.argv[3]), JSON.parse(process.argv[4])];
const counts = {};
for (let i = 0; i < count; i++) {
  const [method, path, size] = mix[i % mix.length];
  const response = await fetch(url + path, { method, body: size ? "x".repeat(size) : undefined });
  await response.arrayBuffer();
  counts[response.status] = (counts[response.status] ?? 0) + 1;
}
console.log(JSON.stringify(counts));
