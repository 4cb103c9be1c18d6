# Cluster-randomised trials: lmer(outcome ~ arm + baseline + (1 | cluster)) in each, Kenward-Roger by
# pbkrtest, metafor over them and a trial that randomised persons.
# Run: Rscript cluster.R > cluster.json  (writes cluster.csv beside it)
suppressMessages({library(lme4); library(pbkrtest); library(metafor); library(jsonlite)})
RNGversion("4.2.0"); set.seed(20250311)
trial <- function(name, clusters, sizes, icc, effect, arms = c("control", "active")) {
  total <- 49; between <- sqrt(icc * total); within <- sqrt((1 - icc) * total)
  do.call(rbind, lapply(seq_len(clusters), function(j) {
    n <- sample(sizes, 1); arm <- arms[1 + (j - 1) %% length(arms)]
    b <- rnorm(n, 50, 8); u <- rnorm(1, 0, between)
    data.frame(trial = name, participant_id = sprintf("%s-%02d-%03d", name, j, seq_len(n)),
               ward = if (icc < 0) "" else sprintf("W%02d", j), arm = arm, lv_ef_baseline = round(b, 2),
               age_years = round(rnorm(n, 60, 9), 1),
               lv_ef_percent = round(12 + 0.7 * b + u + ifelse(arm == "control", 0, effect) +
                                     rnorm(n, 0, within), 3))
  }))
}
rows <- rbind(trial("AKER", 16, 8:30, 0.10, 3), trial("BJERK", 8, 20:40, 0.03, 2),
              trial("CLAVA", 24, 3:12, 0.25, 4), trial("DUAL", 18, 10:20, 0.08, 2.5,
                                                       c("control", "active", "high")),
              transform(trial("EINER", 40, 3:6, 0.00001, 3), ward = ""))
write.csv(rows, "cluster.csv", row.names = FALSE, quote = FALSE)
rows <- read.csv("cluster.csv", colClasses = c(participant_id = "character"))
rows$arm <- relevel(factor(rows$arm), ref = "control")
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-12, maxfun = 1e6))
one <- function(d, f, clustered) {
  d$arm <- droplevels(d$arm)
  if (!clustered) { m <- lm(f, d); co <- summary(m)$coefficients
    return(lapply(setNames(grep("^arm", rownames(co), value = TRUE), sub("^arm", "", grep("^arm", rownames(co), value = TRUE))),
      function(a) list(estimate = co[a, 1], se = co[a, 2], df = m$df.residual))) }
  m <- lmer(update(f, . ~ . + (1 | ward)), d, REML = TRUE, control = tight)
  v <- vcovAdj(m); at <- grep("^arm", names(fixef(m)))
  r <- lapply(at, function(i) { L <- rep(0, length(fixef(m))); L[i] <- 1
    list(estimate = unname(fixef(m)[i]), se = sqrt(v[i, i]), plain_se = sqrt(vcov(m)[i, i]),
         df = Lb_ddf(L, vcov(m), v), between = as.numeric(VarCorr(m)$ward), within = sigma(m)^2,
         criterion = as.numeric(REMLcrit(m))) })
  setNames(r, sub("^arm", "", names(fixef(m))[at]))
}
of <- function(f) lapply(setNames(nm = unique(rows$trial)), function(t)
  one(rows[rows$trial == t, ], f, t != "EINER"))
ancova <- of(lv_ef_percent ~ arm + lv_ef_baseline)
adjusted <- of(lv_ef_percent ~ arm + lv_ef_baseline + age_years)
y <- sapply(ancova, function(t) t$active$estimate); s <- sapply(ancova, function(t) t$active$se)
r <- rma(y, sei = s, test = "adhoc", control = list(threshold = 1e-12, maxiter = 20000))
cat(toJSON(list(
  made_by = list(R = R.version.string, lme4 = as.character(packageVersion("lme4")),
                 pbkrtest = as.character(packageVersion("pbkrtest"))),
  ancova = ancova, adjusted = adjusted,
  pooled = list(estimate = as.numeric(r$beta), se = r$se, tau2 = r$tau2, ci_low = r$ci.lb,
                ci_high = r$ci.ub)), digits = I(17), auto_unbox = TRUE, pretty = TRUE), "\n")
