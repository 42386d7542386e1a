// Bring each explorable of a page to life, with the data that stands in it.

import { hear } from "./hear.js";
import { league } from "./league.js";
import { lookup } from "./lookup.js";
import { sure } from "./sure.js";

const KINDS = { hear, league, lookup, sure };

for (const place of document.querySelectorAll(".explorable")) {
  const data = JSON.parse(place.querySelector("script").textContent);
  place.replaceChildren();
  KINDS[place.dataset.name](place, data);
}
