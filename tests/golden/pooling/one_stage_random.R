# One-stage models with random trial intercepts, alone or correlated with the effect, and of several
# arms with a shared control. Reads one_stage_people.csv and multi_arm.csv.
# Run: Rscript one_stage_random.R > one_stage_random.json
# Treatment and baseline are centred by trial, so that nothing between trials enters the effect.
suppressMessages({library(lme4); library(pbkrtest); library(lmerTest); library(nlme); library(jsonlite)})
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 1e6, rhoend = 1e-12),
                     calc.derivs = FALSE, check.conv.grad = "ignore", check.conv.hess = "ignore",
                     check.conv.singular = "ignore")
slopes <- y ~ trial:bc + tc
forms <- list(intercept = . ~ . + (1 | trial) + (0 + tc | trial), correlated = . ~ . + (1 + tc | trial))
spread <- function(v) {  # variances of effect and intercept, their covariance
  g <- function(a, b) { x <- v$vcov[v$grp != "Residual" & v$var1 %in% a & (is.na(v$var2) & is.na(b) | v$var2 %in% b)]
    if (length(x)) x else 0 }
  c(g("tc", NA), g("(Intercept)", NA), g("(Intercept)", "tc"))
}
common <- function(d, kind, REML) {
  m <- lmerTest::lmer(update(slopes, forms[[kind]]), d, REML = REML, control = tight)
  l <- as.numeric(names(fixef(m)) == "tc")
  out <- list(estimate = fixef(m)[["tc"]], se = sqrt(vcov(m)["tc", "tc"]),
    intercept = fixef(m)[["(Intercept)"]], theta = spread(as.data.frame(VarCorr(m))),
    sigma2 = sigma(m)^2, criterion = if (REML) REMLcrit(m) else deviance(m))
  if (REML) {
    kr <- pbkrtest::vcovAdj(m); out$kr_se <- sqrt(as.numeric(kr["tc", "tc"]))
    out$kr_df <- pbkrtest::Lb_ddf(l, vcov(m), kr)
    out$satterthwaite_df <- lmerTest::contest1D(m, l, ddf = "Satterthwaite")$df
  }
  out
}
by_trial <- function(d, kind) {
  ctrl <- lmeControl(maxIter = 1000, msMaxIter = 1000, niterEM = 200, tolerance = 1e-14, msTol = 1e-16,
                     opt = "nlminb", returnObject = TRUE)
  cov <- if (kind == "intercept") pdDiag(~ tc) else pdSymm(~ tc)
  m <- lme(slopes, random = list(trial = cov), weights = varIdent(form = ~ 1 | trial), data = d, control = ctrl)
  s <- m$sigma^2 * (1 / varWeights(m$modelStruct$varStruct))^2
  D <- as.matrix(getVarCov(m))
  list(estimate = fixef(m)[["tc"]], se = sqrt(vcov(m)["tc", "tc"]), theta = c(D[2, 2], D[1, 1], D[1, 2]),
       variances = as.list(tapply(s, d$trial[order(d$trial)], `[`, 1)), criterion = -2 * as.numeric(logLik(m)))
}
# REML, Kenward & Roger (1997) and Satterthwaite with n x n matrices, by Fisher scoring from `start`.
dense <- function(X, y, Vd, start, contrasts, nonnegative) {
  phi <- start; L <- length(phi); sp <- function(A, B) sum(A * t(B))
  at <- function(phi) {
    Vi <- solve(Reduce(`+`, Map(`*`, phi, Vd))); F <- solve(t(X) %*% Vi %*% X)
    P <- Vi - Vi %*% X %*% F %*% t(X) %*% Vi
    list(Vi = Vi, F = F, P = P, Py = as.numeric(P %*% y), PV = lapply(Vd, function(M) P %*% M))
  }
  for (it in 1:500) {
    a <- at(phi)
    sc <- sapply(1:L, function(r) -.5 * (sum(diag(a$PV[[r]])) - sum(a$Py * (Vd[[r]] %*% a$Py))))
    I <- outer(1:L, 1:L, Vectorize(function(r, s) .5 * sp(a$PV[[r]], a$PV[[s]])))
    new <- phi + solve(I, sc); new[nonnegative] <- pmax(new[nonnegative], phi[nonnegative] / 3)
    done <- max(abs(new - phi) / (abs(phi) + 1e-8)) < 1e-12; phi <- new; if (done) break
  }
  a <- at(phi); W <- solve(I); VX <- a$Vi %*% X; F <- a$F; beta <- F %*% t(X) %*% a$Vi %*% y
  Pm <- lapply(Vd, function(M) -t(VX) %*% M %*% VX); A <- matrix(0, ncol(X), ncol(X))
  for (r in 1:L) for (s in 1:L) A <- A + W[r, s] *
    (t(VX) %*% Vd[[r]] %*% a$Vi %*% Vd[[s]] %*% VX - Pm[[r]] %*% F %*% Pm[[s]])
  FA <- F + 2 * F %*% A %*% F
  obs <- outer(1:L, 1:L, Vectorize(function(r, s)
    as.numeric(t(a$Py) %*% Vd[[r]] %*% a$P %*% Vd[[s]] %*% a$Py) - .5 * sp(a$PV[[r]], a$PV[[s]])))
  list(phi = phi, steps = it, tests = lapply(contrasts, function(l) {
    v <- as.numeric(t(l) %*% F %*% l); g <- sapply(Pm, function(M) as.numeric(t(l) %*% F %*% M %*% F %*% l))
    list(estimate = sum(l * beta), se = sqrt(v), kr_se = sqrt(as.numeric(t(l) %*% FA %*% l)),
         kr_df = 2 * v^2 / as.numeric(t(g) %*% W %*% g),
         satterthwaite_df = 2 * v^2 / as.numeric(t(g) %*% solve(obs) %*% g)) }))
}
same <- function(f) outer(as.integer(f), as.integer(f), "==")
residuals <- function(g) lapply(levels(g), function(l) diag(as.numeric(g == l)))
random <- function(d, kind, group, start) {
  g <- factor(d[[group]]); one <- rep(1, nrow(d)); X <- model.matrix(slopes, d)
  Vd <- list(outer(d$tc, d$tc) * same(d$trial), same(d$trial) * 1)
  if (kind == "correlated") Vd <- c(Vd, list((outer(d$tc, one) + outer(one, d$tc)) * same(d$trial)))
  q <- length(Vd); phi <- c(pmax(start$theta[1:2], 0.5), if (q == 3) 0, rep(start$sigma2, nlevels(g)))
  f <- dense(X, d$y, c(Vd, residuals(g)), phi, list(as.numeric(colnames(X) == "tc")), setdiff(seq_along(phi), 3 * (q == 3)))
  c(f$tests[[1]], list(theta = f$phi[1:q], variances = as.list(setNames(f$phi[-(1:q)], levels(g))), steps = f$steps))
}
rows <- read.csv("one_stage_people.csv"); out <- list()
rows$y <- rows$lv_ef_percent; rows$treat <- as.numeric(rows$arm == "active")
for (s in c("S", "F", "M")) {
  d <- rows[rows$set == s, ]; d$trial <- factor(d$trial); d$cell <- paste(d$trial, d$arm)
  d$tc <- d$treat - ave(d$treat, d$trial); d$bc <- d$lv_ef_baseline - ave(d$lv_ef_baseline, d$trial)
  for (kind in c("intercept", "correlated")) {
    m <- common(d, kind, TRUE)
    out[[s]][[kind]] <- list(common = m, common_ml = common(d, kind, FALSE), by_trial = by_trial(d, kind))
    if (s == "M") out[[s]][[kind]] <- c(out[[s]][[kind]], list(
      dense_by_trial = random(d, kind, "trial", m), dense_by_arm = random(d, kind, "cell", m)))
  }
}
a <- read.csv("multi_arm.csv"); a$trial <- factor(a$trial); a$all <- factor(1)
a$low <- as.numeric(a$arm == "low"); a$high <- as.numeric(a$arm == "high")
X <- model.matrix(lv_ef_percent ~ 0 + trial + trial:lv_ef_baseline + low + high, a)
V <- (tcrossprod(a$low) + tcrossprod(a$high) + (outer(a$low, a$high) + outer(a$high, a$low)) / 2) * same(a$trial)
e <- function(name) as.numeric(colnames(X) == name)
arms <- lapply(list(common = "all", by_trial = "trial"), function(group) {
  f <- dense(X, a$lv_ef_percent, c(list(V), residuals(factor(a[[group]]))), c(4, rep(36, nlevels(factor(a[[group]])))),
             list(low = e("low"), high = e("high"), high_low = e("high") - e("low")), seq_len(1 + nlevels(factor(a[[group]]))))
  c(f$tests, list(tau2 = f$phi[1])) })
cat(toJSON(list(made_by = c(list(R = R.version.string), sapply(c("lme4", "pbkrtest", "lmerTest", "nlme"),
  function(p) as.character(packageVersion(p)), simplify = FALSE)), sets = out, arms = arms),
  digits = I(17), auto_unbox = TRUE, pretty = TRUE), "\n")
