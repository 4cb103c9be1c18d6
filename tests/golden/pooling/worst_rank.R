# Worst-rank win odds from the definition: every pair of participants compared, DeLong's variance
# from the placements; the probability also by wilcox.test. metafor pools the log odds.
# Run: Rscript worst_rank.R > worst_rank.json  (writes worst_rank.csv beside it)
suppressMessages({library(metafor); library(jsonlite)})
RNGversion("4.2.0"); set.seed(77)
rows <- do.call(rbind, lapply(c("ALPHA", "BRAVO", "CHARLIE"), function(t) {
  n <- 70; arm <- sample(c("control", "active"), n, TRUE)
  ef <- round(45 + 3 * (arm == "active") + rnorm(n, 0, 8))             # whole points: ties
  dead <- runif(n) < ifelse(arm == "active", 0.08, 0.16)
  day <- ifelse(dead, sample(10:340, n, TRUE), NA); ef[dead] <- NA
  ef[!dead & runif(n) < 0.05] <- NA                                    # alive, did not come
  data.frame(trial = t, participant_id = sprintf("%s-%02d", substr(t, 1, 1), 1:n), arm = arm,
             lv_ef_baseline = round(rnorm(n, 42, 8), 1), lv_ef_percent = ef, death_day = day) }))
write.csv(rows, "worst_rank.csv", row.names = FALSE, na = "", quote = FALSE)
one <- function(t) {
  d <- rows[rows$trial == t & (!is.na(rows$lv_ef_percent) | !is.na(rows$death_day)), ]
  better <- function(i, j) {                                           # 1 better, 0.5 equal, 0 worse
    a <- d[i, ]; b <- d[j, ]; da <- !is.na(a$death_day); db <- !is.na(b$death_day)
    if (da && db) return((sign(a$death_day - b$death_day) + 1) / 2)
    if (da != db) return(as.numeric(db))
    (sign(a$lv_ef_percent - b$lv_ef_percent) + 1) / 2 }
  act <- which(d$arm == "active"); con <- which(d$arm == "control")
  m <- outer(act, con, Vectorize(better)); theta <- mean(m)
  v <- var(rowMeans(m)) / length(act) + var(colMeans(m)) / length(con)
  s <- ifelse(is.na(d$death_day), 1e4 + d$lv_ef_percent, d$death_day)
  w <- suppressWarnings(wilcox.test(s[act], s[con]))$statistic / length(act) / length(con)
  stopifnot(abs(w - theta) < 1e-12)
  data.frame(trial = t, n_active = length(act), n_control = length(con), theta = theta,
             estimate = log(theta / (1 - theta)), se = sqrt(v) / (theta * (1 - theta))) }
e <- do.call(rbind, lapply(unique(rows$trial), one))
p <- rma(estimate, sei = se, data = e, test = "adhoc", control = list(threshold = 1e-12))
cat(toJSON(list(made_by = list(R = R.version.string,
  metafor = as.character(packageVersion("metafor"))), trials = e,
  pooled = list(estimate = as.numeric(p$beta), se = p$se, ci_low = p$ci.lb, ci_high = p$ci.ub)),
  digits = I(17), auto_unbox = TRUE, pretty = TRUE), "\n")
