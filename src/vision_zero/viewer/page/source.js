"use strict";
// Where data comes from: a server that answers with JSON, or, in a folder that was written to be shared, scripts that
// call `deliver` (a page opened from disk may load nothing else). Addresses are the same.

const source = (() => {
  const kind = document.querySelector('meta[name="vision-zero"]').content; // "live", "table" (live, with a seat), "static"
  const live = kind !== "static";
  const awaited = new Map();

  window.deliver = (address, value) => awaited.get(address)?.resolve(value);

  async function fetched(address) {
    const answer = await fetch(`data/${address}.json`, { cache: "no-cache" });
    const value = await answer.json();
    if (!answer.ok) throw new Error(value.error);
    return { value, tag: answer.headers.get("etag") };
  }

  function delivered(address) {
    if (!awaited.has(address)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
      awaited.set(address, entry);
      const fail = () => entry.reject(new Error(`${address} is not in this folder`));
      document.head.append(el("script", { src: `data/${address}.js`, error: fail, load: fail }));
    }
    return awaited.get(address).promise;
  }

  async function get(address) {
    return live ? (await fetched(address)).value : delivered(address);
  }

  /** Call `use(value)` now and whenever the value changes; returns what stops it. */
  function watch(address, use, failed) {
    let stopped = false;
    let last = {};
    const look = async () => {
      if (stopped) return;
      try {
        const now = live ? await fetched(address) : { value: await delivered(address), tag: "static" };
        if (!stopped && (now.tag === null || now.tag !== last.tag)) use(now.value);
        last = now;
      } catch (error) {
        if (!stopped) failed(error);
      }
      if (live && !stopped) setTimeout(look, SECONDS_BETWEEN_LOOKS * 1000);
    };
    const first = look();
    return { stop: () => (stopped = true), first };
  }

  const run = (name) => `runs/${encodeURIComponent(name)}`;
  const picture = (name, sha) => `data/${run(name)}/pictures/${sha}`;
  return { live, seated: kind === "table", get, watch, run, picture };
})();

const SECONDS_BETWEEN_LOOKS = 3;
