// The start page says which engine sent it. Without this script a link says where to find out.
fetch("stats.json").then((answer) => answer.json()).then((stats) => {
  document.getElementById("state").classList.add("live");
  document.getElementById("state-text").textContent =
    `Sent to you by the ${stats.engine} engine, ${stats.server} in front of it`;
}).catch(() => {});
